//! Spaces, summaries of rooms, and events by time.

use parley_conformance::{Answer, Client, on_each_engine};
use serde_json::{Value, json};

use super::{
    act, act_self, create, create_public, get_event, join, quoted, room_path, say, set_state,
};

const V1: &str = "/_matrix/client/v1";

async fn create_space(client: &Client, name: &str, preset: &str) -> String {
    let content = json!({ "type": "m.space" });
    create(
        client,
        json!({ "preset": preset, "name": name, "creation_content": content }),
    )
    .await
}

async fn create_room(client: &Client, name: &str, preset: &str) -> String {
    create(client, json!({ "preset": preset, "name": name })).await
}

async fn add_child(client: &Client, space: &str, room: &str, content: Value) {
    let mut with_via = json!({ "via": ["parley.test"] });
    with_via
        .as_object_mut()
        .unwrap()
        .extend(content.as_object().unwrap().clone());
    set_state(client, space, "m.space.child", room, with_via)
        .await
        .ok();
}

async fn hierarchy(client: &Client, space: &str, query: &str) -> Answer {
    let path = format!("{V1}/rooms/{}/hierarchy?{query}", quoted(space));
    client.get(&path).await
}

/// The names of the rooms of a part of a space.
fn names(page: &Value) -> Vec<&str> {
    let rooms = page["rooms"].as_array().unwrap();
    rooms
        .iter()
        .map(|room| room["name"].as_str().unwrap())
        .collect()
}

/// Root, with one, a space (with deep, a space, with three and four) and two.
async fn tree(alice: &Client) -> String {
    let root = create_space(alice, "root", "public_chat").await;
    let inner = create_space(alice, "inner", "public_chat").await;
    let deep = create_space(alice, "deep", "public_chat").await;
    let mut rooms = Vec::new();
    for name in ["one", "two", "three", "four"] {
        rooms.push(create_room(alice, name, "public_chat").await);
    }
    add_child(alice, &root, &rooms[0], json!({ "suggested": true })).await;
    add_child(alice, &root, &inner, json!({})).await;
    add_child(alice, &root, &rooms[1], json!({ "suggested": true })).await;
    add_child(alice, &inner, &deep, json!({})).await;
    add_child(alice, &deep, &rooms[2], json!({})).await;
    add_child(alice, &deep, &rooms[3], json!({})).await;
    // A loop, which is no reason to walk in circles; a room that is no space; a room that isn't there.
    add_child(alice, &deep, &root, json!({})).await;
    add_child(alice, &rooms[0], &rooms[3], json!({})).await;
    add_child(alice, &root, "!nowhere:parley.test", json!({})).await;
    root
}

#[tokio::test]
async fn a_space_is_walked_depth_first_and_page_by_page() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let root = tree(&alice).await;
        let whole = hierarchy(&alice, &root, "").await.ok();
        let all = ["root", "one", "inner", "deep", "three", "four", "two"];
        assert_eq!(names(&whole), all);
        assert!(whole.get("next_batch").is_none());
        let first = &whole["rooms"][0];
        assert_eq!(
            [&first["room_type"], &first["room_id"]],
            ["m.space", root.as_str()]
        );
        assert_eq!(first["num_joined_members"], 1);
        let children = first["children_state"].as_array().unwrap();
        assert_eq!(children.len(), 4);
        for child in children {
            assert!(
                child["origin_server_ts"].is_u64() && child["sender"].is_string(),
                "{child}"
            );
            assert!(child.get("event_id").is_none(), "{child}");
        }
        assert_eq!(whole["rooms"][1]["children_state"], json!([]));

        let mut query = "limit=3".to_owned();
        let mut told = Vec::new();
        loop {
            let page = hierarchy(&alice, &root, &query).await.ok();
            told.extend(names(&page).into_iter().map(ToOwned::to_owned));
            match page["next_batch"].as_str() {
                Some(next) => query = format!("limit=3&from={}", quoted(next)),
                None => break,
            }
        }
        assert_eq!(told, all);
    })
    .await;
}

#[tokio::test]
async fn depth_and_suggestions_limit_the_walk_and_a_page_keeps_to_them() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let root = tree(&alice).await;
        let page = hierarchy(&alice, &root, "max_depth=1").await.ok();
        assert_eq!(names(&page), ["root", "one", "inner", "two"]);
        assert_eq!(
            page["rooms"][2]["children_state"].as_array().unwrap().len(),
            1
        );
        let page = hierarchy(&alice, &root, "max_depth=0").await.ok();
        assert_eq!(names(&page), ["root"]);
        let page = hierarchy(&alice, &root, "suggested_only=true").await.ok();
        assert_eq!(names(&page), ["root", "one", "two"]);
        assert_eq!(
            page["rooms"][0]["children_state"].as_array().unwrap().len(),
            2
        );

        let page = hierarchy(&alice, &root, "suggested_only=true&max_depth=3&limit=2")
            .await
            .ok();
        let token = quoted(page["next_batch"].as_str().unwrap());
        let rest = hierarchy(&alice, &root, &format!("from={token}"))
            .await
            .ok();
        assert_eq!(names(&rest), ["two"]);
        for other in ["max_depth=2", "max_depth=4"] {
            hierarchy(
                &alice,
                &root,
                &format!("from={token}&suggested_only=true&{other}"),
            )
            .await
            .is_refused(400, "M_INVALID_PARAM");
        }
        let page = hierarchy(&alice, &root, "limit=2").await.ok();
        let token = quoted(page["next_batch"].as_str().unwrap());
        hierarchy(&alice, &root, &format!("from={token}&suggested_only=true"))
            .await
            .is_refused(400, "M_INVALID_PARAM");
        for query in ["from=nonsense", "limit=0", "max_depth=-1"] {
            hierarchy(&alice, &root, query)
                .await
                .is_refused(400, "M_INVALID_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn children_stand_in_the_order_that_the_space_gives_them() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let root = create_space(&alice, "root", "public_chat").await;
        let long = "x".repeat(51);
        for (name, order) in [
            ("late", json!({ "order": "b" })),
            ("first without", json!({})),
            ("early", json!({ "order": "a" })),
            ("too long", json!({ "order": long })),
            ("no text", json!({ "order": 1 })),
            ("not ascii", json!({ "order": "ä" })),
        ] {
            let room = create_room(&alice, name, "public_chat").await;
            add_child(&alice, &root, &room, order).await;
        }
        let gone = create_room(&alice, "gone", "public_chat").await;
        add_child(&alice, &root, &gone, json!({})).await;
        add_child(&alice, &root, &gone, json!({ "via": [] })).await;
        let page = hierarchy(&alice, &root, "").await.ok();
        let expected = [
            "root",
            "early",
            "late",
            "first without",
            "too long",
            "no text",
            "not ascii",
        ];
        assert_eq!(names(&page), expected);
    })
    .await;
}

#[tokio::test]
async fn a_space_shows_only_what_one_may_enter_or_read() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let root = create_space(&alice, "root", "public_chat").await;
        let invited = create_room(&alice, "invited", "private_chat").await;
        let closed = create_space(&alice, "closed", "private_chat").await;
        let below = create_room(&alice, "below", "public_chat").await;
        add_child(&alice, &closed, &below, json!({})).await;
        let rule = |rule: Value| json!({ "type": "m.room.join_rules", "content": rule });
        let knocking = rule(json!({ "join_rule": "knock" }));
        let knocking = create(&alice, json!({ "name": "knocking", "initial_state": [knocking] })).await;
        let allow = json!([{ "type": "m.room_membership", "room_id": root }]);
        let restricted = rule(json!({ "join_rule": "restricted", "allow": allow }));
        let restricted = create(&alice, json!({ "name": "restricted", "initial_state": [restricted] })).await;
        let open = json!({ "type": "m.room.history_visibility", "content": { "history_visibility": "world_readable" } });
        let readable = create(&alice, json!({ "name": "readable", "initial_state": [open] })).await;
        for room in [&invited, &closed, &knocking, &restricted, &readable] {
            add_child(&alice, &root, room, json!({})).await;
        }
        let seen = async || {
            let page = hierarchy(&bob, &root, "").await.ok();
            names(&page).join(" ")
        };
        assert_eq!(seen().await, "root knocking readable");
        act(&alice, &invited, "invite", &bob).await.ok();
        assert_eq!(seen().await, "root invited knocking readable");
        join(&bob, &root).await.ok();
        assert_eq!(seen().await, "root invited knocking restricted readable");
        act(&alice, &closed, "invite", &bob).await.ok();
        assert_eq!(seen().await, "root invited closed below knocking restricted readable");

        let page = hierarchy(&bob, &root, "").await.ok();
        let rooms = page["rooms"].as_array().unwrap();
        let room = rooms.iter().find(|room| room["name"] == "restricted").unwrap();
        assert_eq!(room["allowed_room_ids"], json!([root]));
        let secret = create_space(&alice, "secret", "private_chat").await;
        hierarchy(&bob, &secret, "").await.is_refused(403, "M_FORBIDDEN");
        hierarchy(&bob, "!nowhere:parley.test", "").await.is_refused(403, "M_FORBIDDEN");
        hierarchy(&server.client(), &root, "").await.is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_join_rule_that_a_version_does_not_know_shows_a_room_to_nobody() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let root = create_space(&alice, "root", "public_chat").await;
        let allow = json!([{ "type": "m.room_membership", "room_id": root }]);
        for (version, rule) in [
            ("7", "restricted"),
            ("8", "restricted"),
            ("9", "knock_restricted"),
            ("10", "knock_restricted"),
        ] {
            let content = json!({ "join_rule": rule, "allow": allow });
            let plan = json!({
                "name": format!("{rule} {version}"), "room_version": version,
                "initial_state": [{ "type": "m.room.join_rules", "content": content }],
            });
            let room = create(&alice, plan).await;
            add_child(&alice, &root, &room, json!({})).await;
        }
        join(&bob, &root).await.ok();
        let page = hierarchy(&bob, &root, "").await.ok();
        let mut seen = names(&page);
        seen.sort_unstable();
        assert_eq!(seen, ["knock_restricted 10", "restricted 8", "root"]);
    })
    .await;
}

async fn summary(client: &Client, room: &str) -> Answer {
    client
        .get(&format!("{V1}/room_summary/{}", quoted(room)))
        .await
}

#[tokio::test]
async fn a_summary_says_what_a_room_is_and_what_one_has_to_do_with_it() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let encryption = json!({ "type": "m.room.encryption", "content": { "algorithm": "m.megolm.v1.aes-sha2" } });
        let plan = json!({
            "preset": "public_chat", "name": "harbour", "topic": "ships", "room_alias_name": "harbour",
            "initial_state": [encryption], "room_version": "11",
        });
        let room_id = create(&alice, plan).await;
        let told = summary(&alice, &room_id).await.ok();
        for (key, value) in [
            ("room_id", json!(room_id)),
            ("name", json!("harbour")),
            ("topic", json!("ships")),
            ("canonical_alias", json!("#harbour:parley.test")),
            ("num_joined_members", json!(1)),
            ("guest_can_join", json!(false)),
            ("world_readable", json!(false)),
            ("encryption", json!("m.megolm.v1.aes-sha2")),
            ("room_version", json!("11")),
            ("membership", json!("join")),
        ] {
            assert_eq!(told[key], value, "{key}");
        }
        assert!(told.get("allowed_room_ids").is_none());
        let by_alias = summary(&bob, "#harbour:parley.test").await.ok();
        assert_eq!([&by_alias["room_id"], &by_alias["membership"]], [room_id.as_str(), "leave"]);
        join(&bob, &room_id).await.ok();
        set_state(&alice, &room_id, "m.room.name", "", json!({ "name": "pier" })).await.ok();
        let told = summary(&server.client(), &room_id).await.ok();
        assert_eq!(told["name"], "pier");
        assert_eq!(told["num_joined_members"], 2);
        assert!(told.get("membership").is_none(), "{told}");
    })
    .await;
}

#[tokio::test]
async fn a_summary_of_what_one_may_not_see_is_not_found() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let closed = create(&alice, json!({ "name": "closed" })).await;
        summary(&bob, &closed).await.is_refused(404, "M_NOT_FOUND");
        summary(&server.client(), &closed)
            .await
            .is_refused(404, "M_NOT_FOUND");
        summary(&bob, "!nowhere:parley.test")
            .await
            .is_refused(404, "M_NOT_FOUND");
        summary(&bob, "#nowhere:parley.test")
            .await
            .is_refused(404, "M_NOT_FOUND");
        act(&alice, &closed, "invite", &bob).await.ok();
        assert_eq!(summary(&bob, &closed).await.ok()["membership"], "invite");
        act_self(&bob, &closed, "leave").await.ok();
        summary(&bob, &closed).await.is_refused(404, "M_NOT_FOUND");
        summary(&bob.with_token("nonsense"), &closed)
            .await
            .is_refused(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_redacted_topic_is_no_longer_shown() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let answer = set_state(
            &alice,
            &room_id,
            "m.room.topic",
            "",
            json!({ "topic": "secret" }),
        )
        .await;
        assert_eq!(summary(&alice, &room_id).await.ok()["topic"], "secret");
        let event_id = super::event_id(&answer.ok());
        let path = room_path(&room_id, &format!("redact/{}/1", quoted(&event_id)));
        alice.put(&path, json!({})).await.ok();
        assert!(summary(&alice, &room_id).await.ok().get("topic").is_none());
    })
    .await;
}

async fn near(client: &Client, room_id: &str, time: u64, direction: &str) -> Answer {
    let room = quoted(room_id);
    let path = format!("{V1}/rooms/{room}/timestamp_to_event?ts={time}&dir={direction}");
    client.get(&path).await
}

#[tokio::test]
async fn the_event_of_a_time_is_found_in_either_direction_if_one_may_see_it() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        let one = say(&alice, &room_id, "one").await;
        let time = get_event(&alice, &room_id, &one).await.ok()["origin_server_ts"]
            .as_u64()
            .unwrap();
        for (time, direction) in [(time, "b"), (time + 60_000, "b")] {
            let found = near(&alice, &room_id, time, direction).await.ok();
            assert!(found["origin_server_ts"].as_u64().unwrap() <= time);
        }
        assert_eq!(
            near(&alice, &room_id, time + 60_000, "b").await.ok()["event_id"],
            one.as_str()
        );
        let first = near(&alice, &room_id, 0, "f").await.ok();
        let first = get_event(&alice, &room_id, first["event_id"].as_str().unwrap())
            .await
            .ok();
        assert_eq!(first["type"], "m.room.create");
        near(&alice, &room_id, 0, "b")
            .await
            .is_refused(404, "M_NOT_FOUND");
        near(&alice, &room_id, time + 60_000, "f")
            .await
            .is_refused(404, "M_NOT_FOUND");
        near(&bob, &room_id, time, "b")
            .await
            .is_refused(403, "M_FORBIDDEN");
        near(&alice, &room_id, time, "x")
            .await
            .is_refused(400, "M_INVALID_PARAM");

        join(&bob, &room_id).await.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        say(&alice, &room_id, "after").await;
        let last = near(&bob, &room_id, time + 60_000, "b").await.ok();
        let last = get_event(&bob, &room_id, last["event_id"].as_str().unwrap())
            .await
            .ok();
        assert_eq!(last["state_key"], bob.user_id.as_str());
    })
    .await;
}

#[tokio::test]
async fn a_room_whose_rule_nobody_knows_is_shown_as_private() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let rule = json!({ "join_rule": "com.example.rule" });
        let state = json!({ "type": "m.room.join_rules", "state_key": "", "content": rule });
        let room_id = create(&alice, json!({ "initial_state": [state] })).await;
        let space = create(&alice, json!({ "creation_content": { "type": "m.space" } })).await;
        let child = json!({ "via": ["parley.test"] });
        set_state(&alice, &space, "m.space.child", &room_id, child)
            .await
            .ok();
        let path = format!("/_matrix/client/v1/room_summary/{}", quoted(&room_id));
        assert_eq!(alice.get(&path).await.ok()["join_rule"], "private");
        let path = format!("/_matrix/client/v1/rooms/{}/hierarchy", quoted(&space));
        let rooms = alice.get(&path).await.ok()["rooms"].clone();
        assert_eq!(rooms.as_array().unwrap().len(), 2, "{rooms}");
        assert_eq!(rooms[1]["join_rule"], "private");
    })
    .await;
}
