//! Aliases and the room directory.

use parley_conformance::{Answer, Client, on_each_engine};
use serde_json::{Value, json};

use super::{BASE, act_self, create, create_public, get_state, join, quoted, room_path, set_state};

fn path(alias: &str) -> String {
    format!("{BASE}/directory/room/{}", quoted(alias))
}

async fn name(client: &Client, alias: &str, room_id: &str) -> Answer {
    client
        .put(&path(alias), json!({ "room_id": room_id }))
        .await
}

async fn aliases(client: &Client, room_id: &str) -> Value {
    client.get(&room_path(room_id, "aliases")).await.ok()["aliases"].clone()
}

#[tokio::test]
async fn an_alias_is_made_found_listed_and_removed() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        assert_eq!(aliases(&alice, &room_id).await, json!([]));
        for alias in ["#harbour:parley.test", "#老虎£я🤨👉ඞ:parley.test"] {
            name(&alice, alias, &room_id).await.ok();
            let found = server.client().get(&path(alias)).await.ok();
            assert_eq!(found["room_id"], room_id.as_str());
            assert_eq!(found["servers"], json!(["parley.test"]));
            assert_eq!(aliases(&alice, &room_id).await, json!([alias]));
            name(&alice, alias, &room_id)
                .await
                .is_refused(409, "M_UNKNOWN");
            alice.delete(&path(alias), json!({})).await.ok();
            alice
                .delete(&path(alias), json!({}))
                .await
                .is_refused(404, "M_NOT_FOUND");
            server
                .client()
                .get(&path(alias))
                .await
                .is_refused(404, "M_NOT_FOUND");
        }
        name(&alice, "#harbour:elsewhere.test", &room_id)
            .await
            .is_refused(400, "M_INVALID_PARAM");
        name(&alice, "harbour", &room_id)
            .await
            .is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn only_members_name_a_room_and_list_its_names() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        name(&bob, "#harbour:parley.test", &room_id)
            .await
            .is_refused(403, "M_FORBIDDEN");
        name(&bob, "#harbour:parley.test", "!nowhere:parley.test")
            .await
            .is_refused(403, "M_FORBIDDEN");
        bob.get(&room_path(&room_id, "aliases"))
            .await
            .is_refused(403, "M_FORBIDDEN");
        let open = json!({ "history_visibility": "world_readable" });
        set_state(&alice, &room_id, "m.room.history_visibility", "", open)
            .await
            .ok();
        assert_eq!(aliases(&bob, &room_id).await, json!([]));
    })
    .await;
}

#[tokio::test]
async fn an_alias_is_removed_by_who_made_it_or_by_those_with_power() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let by_alice = "#by-alice:parley.test";
        let by_bob = "#by-bob:parley.test";
        name(&alice, by_alice, &room_id).await.ok();
        name(&bob, by_bob, &room_id).await.ok();
        bob.delete(&path(by_alice), json!({}))
            .await
            .is_refused(403, "M_FORBIDDEN");
        bob.delete(&path(by_bob), json!({})).await.ok();
        name(&bob, by_bob, &room_id).await.ok();
        alice.delete(&path(by_bob), json!({})).await.ok();
        name(&bob, by_bob, &room_id).await.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        bob.delete(&path(by_bob), json!({})).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_main_alias_that_is_removed_leaves_the_rooms_state() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let [main, other] = ["#main:parley.test", "#other:parley.test"];
        name(&alice, main, &room_id).await.ok();
        name(&bob, other, &room_id).await.ok();
        let content = json!({ "alias": main, "alt_aliases": [other] });
        set_state(
            &alice,
            &room_id,
            "m.room.canonical_alias",
            "",
            content.clone(),
        )
        .await
        .ok();
        // Bob may remove what he made, but not change the state.
        bob.delete(&path(other), json!({})).await.ok();
        let state = async || {
            get_state(&alice, &room_id, "m.room.canonical_alias", "")
                .await
                .ok()
        };
        assert_eq!(state().await, content);
        alice.delete(&path(main), json!({})).await.ok();
        assert_eq!(state().await, json!({ "alt_aliases": [other] }));
        // An alias that was there already may stay although it stands for nothing now.
        set_state(
            &alice,
            &room_id,
            "m.room.canonical_alias",
            "",
            json!({ "alt_aliases": [other], "x": 1 }),
        )
        .await
        .ok();
        name(&bob, other, &room_id).await.ok();
        alice.delete(&path(other), json!({})).await.ok();
        assert_eq!(state().await, json!({ "x": 1 }));
    })
    .await;
}

#[tokio::test]
async fn a_main_alias_must_stand_for_the_room() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let elsewhere = create_public(&alice).await;
        name(&alice, "#here:parley.test", &room_id).await.ok();
        name(&alice, "#there:parley.test", &elsewhere).await.ok();
        let set = async |content: Value| {
            set_state(&alice, &room_id, "m.room.canonical_alias", "", content).await
        };
        for wrong in ["#there:parley.test", "#nowhere:parley.test"] {
            set(json!({ "alias": wrong }))
                .await
                .is_refused(400, "M_BAD_ALIAS");
            set(json!({ "alias": "#here:parley.test", "alt_aliases": [wrong] }))
                .await
                .is_refused(400, "M_BAD_ALIAS");
        }
        for malformed in ["%x:parley.test", "here"] {
            set(json!({ "alias": malformed }))
                .await
                .is_refused(400, "M_INVALID_PARAM");
            set(json!({ "alt_aliases": [malformed] }))
                .await
                .is_refused(400, "M_INVALID_PARAM");
        }
        set(json!({ "alias": 1 }))
            .await
            .is_refused(400, "M_BAD_JSON");
        set(json!({ "alias": "#here:parley.test" })).await.ok();
    })
    .await;
}

#[tokio::test]
async fn the_directory_lists_published_rooms_page_by_page() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let mut rooms = Vec::new();
        for number in 0..5 {
            let plan = json!({ "visibility": "public", "name": format!("Room {number}"), "topic": "Ships",
                "room_alias_name": format!("r{number}") });
            rooms.push(create(&alice, plan).await);
        }
        create(&alice, json!({ "preset": "public_chat", "name": "Room hidden" })).await;
        join(&bob, &rooms[3]).await.ok();
        let get = async |query: &str| server.client().get(&format!("{BASE}/publicRooms?{query}")).await.ok();
        let ids = |page: &Value| -> Vec<String> {
            page["chunk"].as_array().unwrap().iter().map(|room| room["room_id"].as_str().unwrap().to_owned()).collect()
        };
        let all = get("").await;
        assert_eq!(all["total_room_count_estimate"], 5);
        let first = &all["chunk"][0];
        assert_eq!(first["room_id"], rooms[3].as_str());
        assert_eq!(first["num_joined_members"], 2);
        assert_eq!(first["name"], "Room 3");
        assert_eq!(first["topic"], "Ships");
        assert_eq!(first["canonical_alias"], "#r3:parley.test");
        assert_eq!((&first["world_readable"], &first["guest_can_join"]), (&json!(false), &json!(false)));
        // `public` is the default, which may be left out.
        assert_eq!(first["join_rule"], "public", "{first}");
        let one = get("limit=2").await;
        assert!(one.get("prev_batch").is_none(), "{one}");
        let two = get(&format!("limit=2&since={}", one["next_batch"].as_str().unwrap())).await;
        let three = get(&format!("limit=2&since={}", two["next_batch"].as_str().unwrap())).await;
        assert!(three.get("next_batch").is_none(), "{three}");
        let mut paged = [ids(&one), ids(&two), ids(&three)].concat();
        assert_eq!(paged, ids(&all));
        let back = get(&format!("limit=2&since={}", three["prev_batch"].as_str().unwrap())).await;
        assert_eq!(ids(&back), ids(&two));
        paged.sort_unstable();
        rooms.sort_unstable();
        assert_eq!(paged, rooms);
        let answer = server.client().get(&format!("{BASE}/publicRooms?since=x")).await;
        answer.is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn the_directory_is_searched_by_text_and_type() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        create(&alice, json!({ "visibility": "public", "name": "Harbour", "creation_content": { "type": "m.space" } })).await;
        create(&alice, json!({ "visibility": "public", "topic": "the HARBOUR wall" })).await;
        create(&alice, json!({ "visibility": "public", "name": "Café" })).await;
        let count = async |body: Value| {
            let answer = alice.post(&format!("{BASE}/publicRooms"), body).await.ok();
            answer["chunk"].as_array().unwrap().len()
        };
        assert_eq!(count(json!({})).await, 3);
        assert_eq!(count(json!({ "filter": { "generic_search_term": "harbour" } })).await, 2);
        assert_eq!(count(json!({ "filter": { "generic_search_term": "CAFÉ" } })).await, 1);
        assert_eq!(count(json!({ "filter": { "room_types": ["m.space"] } })).await, 1);
        assert_eq!(count(json!({ "filter": { "room_types": [null] } })).await, 2);
        let answer = server.client().post(&format!("{BASE}/publicRooms"), json!({})).await;
        answer.is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn who_may_name_a_room_decides_whether_it_is_published() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let path = format!("{BASE}/directory/list/room/{}", quoted(&room_id));
        let visibility = async || server.client().get(&path).await.ok()["visibility"].clone();
        assert_eq!(visibility().await, "private");
        bob.put(&path, json!({ "visibility": "public" }))
            .await
            .is_refused(403, "M_FORBIDDEN");
        alice
            .put(&path, json!({ "visibility": "public" }))
            .await
            .ok();
        assert_eq!(visibility().await, "public");
        alice
            .put(&path, json!({ "visibility": "x" }))
            .await
            .is_refused(400, "M_INVALID_PARAM");
        alice
            .put(&path, json!({ "visibility": "private" }))
            .await
            .ok();
        assert_eq!(visibility().await, "private");
        let nowhere = format!(
            "{BASE}/directory/list/room/{}",
            quoted("!nowhere:parley.test")
        );
        alice.get(&nowhere).await.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn other_aliases_of_a_room_stand_for_it_when_they_are_added() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let other = create(&alice, json!({})).await;
        for (alias, room) in [
            ("#one:parley.test", &room_id),
            ("#other:parley.test", &other),
        ] {
            let path = format!("{BASE}/directory/room/{}", quoted(alias));
            alice.put(&path, json!({ "room_id": room })).await.ok();
        }
        let set = async |content: serde_json::Value| {
            set_state(&alice, &room_id, "m.room.canonical_alias", "", content).await
        };
        let one = "#one:parley.test";
        for (alias, code) in [
            ("#other:parley.test", "M_BAD_ALIAS"),
            ("#none:parley.test", "M_BAD_ALIAS"),
            ("#one:other.test", "M_BAD_ALIAS"),
            ("one", "M_INVALID_PARAM"),
            ("#one", "M_INVALID_PARAM"),
            ("@one:parley.test", "M_INVALID_PARAM"),
        ] {
            set(json!({ "alias": alias })).await.is_refused(400, code);
            let both = json!({ "alias": one, "alt_aliases": [one, alias] });
            set(both).await.is_refused(400, code);
        }
        for content in [
            json!({ "alias": 1 }),
            json!({ "alt_aliases": one }),
            json!({ "alt_aliases": [1] }),
            json!({ "alt_aliases": null }),
        ] {
            set(content).await.is_refused(400, "M_BAD_JSON");
        }
        set(json!({ "alias": one, "alt_aliases": [one] }))
            .await
            .ok();
        // What stands there already isn't asked about again.
        let path = format!("{BASE}/directory/room/{}", quoted(one));
        alice
            .put(&path, json!({ "room_id": other }))
            .await
            .is_refused(409, "M_UNKNOWN");
        set(json!({ "alias": one })).await.ok();
        set(json!({})).await.ok();
    })
    .await;
}

#[tokio::test]
async fn what_stands_beside_the_aliases_of_a_room_is_none() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let there = "#there:parley.test";
        create(&alice, json!({ "room_alias_name": "there" })).await;
        let room_id = create(&alice, json!({})).await;
        let set = async |content: Value| {
            set_state(&alice, &room_id, "m.room.canonical_alias", "", content).await
        };
        set(json!({ "note": there })).await.ok();
        set(json!({ "note": there, "alias": there }))
            .await
            .is_refused(400, "M_BAD_ALIAS");
    })
    .await;
}
