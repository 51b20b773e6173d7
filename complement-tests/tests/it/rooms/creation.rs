//! Making rooms.

use futures::future::join_all;
use parley_conformance::on_each_engine;
use serde_json::json;

use super::{BASE, create, get_state, join, quoted, room_path, say};

const VERSIONS: [&str; 11] = ["2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];

#[tokio::test]
async fn a_room_of_each_version_can_be_made_joined_and_written_to() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        for version in VERSIONS {
            let plan =
                json!({ "room_version": version, "preset": "public_chat", "name": "A room" });
            let room_id = create(&alice, plan).await;
            join(&bob, &room_id).await.ok();
            say(&bob, &room_id, "hello").await;
            let created = get_state(&alice, &room_id, "m.room.create", "").await.ok();
            assert_eq!(created["room_version"], version);
            let names_creator = !matches!(version, "11" | "12");
            assert_eq!(created.get("creator").is_some(), names_creator, "{version}");
            assert_eq!(room_id.contains(':'), version != "12");
        }
    })
    .await;
}

#[tokio::test]
async fn a_version_that_is_unknown_or_no_text_is_refused() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let path = format!("{BASE}/createRoom");
        let answer = alice
            .post(&path, json!({ "room_version": "tomorrow" }))
            .await;
        answer.is_refused(400, "M_UNSUPPORTED_ROOM_VERSION");
        let answer = alice.post(&path, json!({ "room_version": 1 })).await;
        answer.is_refused(400, "M_BAD_JSON");
    })
    .await;
}

#[tokio::test]
async fn rooms_made_alike_in_one_millisecond_are_different_rooms() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let path = format!("{BASE}/createRoom");
        let plan = json!({ "room_version": "12" });
        let answers = join_all((0..20).map(|_| alice.post(&path, plan.clone()))).await;
        let mut rooms: Vec<String> = answers
            .into_iter()
            .map(|answer| answer.ok()["room_id"].as_str().unwrap().to_owned())
            .collect();
        rooms.sort_unstable();
        rooms.dedup();
        assert_eq!(rooms.len(), 20);
    })
    .await;
}

#[tokio::test]
async fn who_is_not_logged_in_makes_no_room() {
    on_each_engine(async |server| {
        let answer = server
            .client()
            .post(&format!("{BASE}/createRoom"), json!({}))
            .await;
        answer.is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn presets_set_who_may_join_and_read() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for (plan, join_rule, guests) in [
            (json!({}), "invite", true),
            (json!({ "visibility": "public" }), "public", false),
            (json!({ "preset": "public_chat" }), "public", false),
            (
                json!({ "preset": "private_chat", "visibility": "public" }),
                "invite",
                true,
            ),
            (json!({ "preset": "trusted_private_chat" }), "invite", true),
        ] {
            let room_id = create(&alice, plan.clone()).await;
            let rules = get_state(&alice, &room_id, "m.room.join_rules", "")
                .await
                .ok();
            assert_eq!(rules["join_rule"], join_rule, "{plan}");
            let access = get_state(&alice, &room_id, "m.room.guest_access", "").await;
            match guests {
                true => assert_eq!(access.ok()["guest_access"], "can_join", "{plan}"),
                // What isn't said keeps them out.
                false => access.is_refused(404, "M_NOT_FOUND"),
            };
            let history = get_state(&alice, &room_id, "m.room.history_visibility", "")
                .await
                .ok();
            assert_eq!(history["history_visibility"], "shared", "{plan}");
        }
        let path = format!("{BASE}/createRoom");
        let answer = alice.post(&path, json!({ "preset": "secret_chat" })).await;
        answer.is_refused(400, "M_INVALID_PARAM");
        let answer = alice.post(&path, json!({ "visibility": "hidden" })).await;
        answer.is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn the_parts_of_a_plan_come_in_their_order() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let plan = json!({
            "name": "Harbour",
            "topic": "Ships",
            "initial_state": [
                { "type": "m.room.topic", "content": { "topic": "Boats" } },
                { "type": "m.room.history_visibility", "state_key": "", "content": { "history_visibility": "joined" } },
            ],
            "creation_content": { "m.federate": false, "room_version": "99", "com.example": 1 },
            "power_level_content_override": { "events_default": 7 },
            "invite": [bob.user_id, bob.user_id],
            "is_direct": true,
            "unknown": true,
        });
        let room_id = create(&alice, plan).await;
        let state = async |event_type: &str, key: &str| {
            get_state(&alice, &room_id, event_type, key).await.ok()
        };
        assert_eq!(state("m.room.name", "").await["name"], "Harbour");
        let topic = state("m.room.topic", "").await;
        assert_eq!(topic["topic"], "Ships");
        assert_eq!(topic["m.topic"]["m.text"], json!([{ "body": "Ships" }]));
        let visibility = state("m.room.history_visibility", "").await;
        assert_eq!(visibility["history_visibility"], "joined");
        let created = state("m.room.create", "").await;
        assert_eq!(created["m.federate"], false);
        assert_eq!(created["com.example"], 1);
        assert_eq!(created["room_version"], "12");
        let levels = state("m.room.power_levels", "").await;
        assert_eq!(levels["events_default"], 7);
        assert_eq!(levels["ban"], 50);
        let invitation = state("m.room.member", &bob.user_id).await;
        assert_eq!(invitation["membership"], "invite");
        assert_eq!(invitation["is_direct"], true);
    })
    .await;
}

#[tokio::test]
async fn an_alias_is_made_with_the_room_or_there_is_no_room() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({ "room_alias_name": "harbour" })).await;
        let alias = get_state(&alice, &room_id, "m.room.canonical_alias", "")
            .await
            .ok();
        assert_eq!(alias["alias"], "#harbour:parley.test");
        let path = format!("{BASE}/createRoom");
        let answer = alice
            .post(&path, json!({ "room_alias_name": "harbour" }))
            .await;
        answer.is_refused(400, "M_ROOM_IN_USE");
        for bad in ["", "with space", "with:colon", "\u{0}"] {
            let answer = alice.post(&path, json!({ "room_alias_name": bad })).await;
            answer.is_refused(400, "M_INVALID_PARAM");
        }
        let rooms = alice.get(&format!("{BASE}/joined_rooms")).await.ok();
        assert_eq!(rooms["joined_rooms"], json!([room_id]));
    })
    .await;
}

#[tokio::test]
async fn of_two_rooms_that_want_an_alias_at_once_one_is_made() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let path = format!("{BASE}/createRoom");
        let plan = json!({ "room_alias_name": "harbour" });
        let (one, two) = tokio::join!(alice.post(&path, plan.clone()), alice.post(&path, plan));
        let (made, refused) = if one.status == 200 {
            (one, two)
        } else {
            (two, one)
        };
        made.ok();
        refused.is_refused(400, "M_ROOM_IN_USE");
    })
    .await;
}

#[tokio::test]
async fn a_plan_that_contradicts_itself_makes_no_room() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let path = format!("{BASE}/createRoom");
        let levels = json!({ "events": { "m.room.name": 1000 } });
        let plan = json!({ "name": "x", "power_level_content_override": levels, "room_version": "11" });
        let answer = alice.post(&path, plan).await;
        answer.is_refused(400, "M_INVALID_ROOM_STATE");
        let plan = json!({ "initial_state": [{ "type": "m.room.member", "state_key": alice.user_id, "content": {} }] });
        let answer = alice.post(&path, plan).await;
        answer.is_refused(400, "M_INVALID_ROOM_STATE");
        let answer = alice.post(&path, json!({ "initial_state": [{ "content": {} }] })).await;
        answer.is_refused(400, "M_BAD_JSON");
        let plan = json!({ "invite": ["@nobody:parley.test"] });
        let answer = alice.post(&path, plan).await;
        answer.is_refused(404, "M_NOT_FOUND");
        let third_party = json!({ "id_server": "id.example", "id_access_token": "t", "medium": "email", "address": "a@example.org" });
        let answer = alice.post(&path, json!({ "invite_3pid": [third_party] })).await;
        answer.is_refused(403, "M_THREEPID_DENIED");
        let rooms = alice.get(&format!("{BASE}/joined_rooms")).await.ok();
        assert_eq!(rooms["joined_rooms"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn those_invited_to_a_trusted_chat_rule_like_the_creator() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        for version in ["11", "12"] {
            let plan = json!({ "preset": "trusted_private_chat", "invite": [bob.user_id], "room_version": version });
            let room_id = create(&alice, plan).await;
            join(&bob, &room_id).await.ok();
            let path = room_path(&room_id, "state/m.room.encryption");
            let content = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
            bob.put(&path, content).await.ok();
        }
        let _ = quoted("");
    })
    .await;
}

#[tokio::test]
async fn a_plan_that_says_what_cannot_be_makes_no_room() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for (plan, code) in [
            (json!({ "preset": "x" }), "M_INVALID_PARAM"),
            (json!({ "visibility": "x" }), "M_INVALID_PARAM"),
            (json!({ "room_version": 12 }), "M_BAD_JSON"),
            (json!({ "room_version": "x" }), "M_UNSUPPORTED_ROOM_VERSION"),
            (json!({ "room_alias_name": "a:b" }), "M_INVALID_PARAM"),
            (json!({ "room_alias_name": "a b" }), "M_INVALID_PARAM"),
            (json!({ "room_alias_name": "" }), "M_INVALID_PARAM"),
            (
                json!({ "room_alias_name": "x".repeat(256) }),
                "M_INVALID_PARAM",
            ),
            (json!({ "name": 1 }), "M_BAD_JSON"),
            (
                json!({ "name": "x".repeat(70_000) }),
                "M_INVALID_ROOM_STATE",
            ),
            (json!({ "topic": 1 }), "M_BAD_JSON"),
            (json!({ "invite": ["x"] }), "M_BAD_JSON"),
            (json!({ "is_direct": "x" }), "M_BAD_JSON"),
            (json!({ "initial_state": [{ "type": "a" }] }), "M_BAD_JSON"),
            (
                json!({ "creation_content": { "m.federate": "x" } }),
                "M_INVALID_ROOM_STATE",
            ),
            (
                json!({ "creation_content": { "type": 1 } }),
                "M_INVALID_ROOM_STATE",
            ),
            (
                json!({ "power_level_content_override": { "ban": "x" } }),
                "M_INVALID_ROOM_STATE",
            ),
            (
                json!({ "power_level_content_override": { "ban": 1.5 } }),
                "M_BAD_JSON",
            ),
        ] {
            let answer = alice.post("/_matrix/client/v3/createRoom", plan).await;
            answer.is_refused(400, code);
        }
        let rooms = alice.get("/_matrix/client/v3/joined_rooms").await.ok();
        assert_eq!(rooms["joined_rooms"], json!([]));
        // Nobody makes a room in the name of another, or of another version than it has.
        let content = json!({ "creator": "@bob:parley.test", "room_version": "3" });
        let plan = json!({ "room_version": "10", "creation_content": content });
        let room_id = create(&alice, plan).await;
        let content = get_state(&alice, &room_id, "m.room.create", "").await.ok();
        assert_eq!(content["creator"], alice.user_id);
        assert_eq!(content["room_version"], "10");
    })
    .await;
}

#[tokio::test]
async fn what_a_room_begins_with_is_checked_like_what_is_set_later() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let other = create(&alice, json!({ "room_alias_name": "other" })).await;
        let plan = |event_type: &str, content: serde_json::Value| {
            let state = json!({ "type": event_type, "state_key": "", "content": content });
            json!({ "room_alias_name": "new", "initial_state": [state] })
        };
        for (event_type, content) in [
            (
                "m.room.canonical_alias",
                json!({ "alias": "#other:parley.test" }),
            ),
            (
                "m.room.canonical_alias",
                json!({ "alt_aliases": ["#none:parley.test"] }),
            ),
            ("m.room.canonical_alias", json!({ "alias": 1 })),
            (
                "m.room.history_visibility",
                json!({ "history_visibility": "x" }),
            ),
            ("m.room.retention", json!({ "max_lifetime": "x" })),
        ] {
            let plan = plan(event_type, content);
            let answer = alice.post(&format!("{BASE}/createRoom"), plan).await;
            answer.is_refused(400, "M_INVALID_ROOM_STATE");
        }
        let own = json!({ "alias": "#new:parley.test", "alt_aliases": ["#new:parley.test"] });
        let room_id = create(&alice, plan("m.room.canonical_alias", own.clone())).await;
        let alias = get_state(&alice, &room_id, "m.room.canonical_alias", "").await;
        assert_eq!(alias.ok(), own);
        let alias = get_state(&alice, &other, "m.room.canonical_alias", "").await;
        assert_eq!(alias.ok()["alias"], "#other:parley.test");
    })
    .await;
}

#[tokio::test]
async fn a_preset_gives_way_to_visibility_and_to_initial_state() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let rule = |rule: &str| {
            let content = json!({ "join_rule": rule });
            json!({ "type": "m.room.join_rules", "state_key": "", "content": content })
        };
        for (plan, expected) in [
            (json!({}), "invite"),
            (json!({ "visibility": "private" }), "invite"),
            (json!({ "visibility": "public" }), "public"),
            (
                json!({ "visibility": "public", "preset": "private_chat" }),
                "invite",
            ),
            (
                json!({ "preset": "public_chat", "initial_state": [rule("knock")] }),
                "knock",
            ),
        ] {
            let room_id = create(&alice, plan.clone()).await;
            let state = get_state(&alice, &room_id, "m.room.join_rules", "")
                .await
                .ok();
            assert_eq!(state["join_rule"], expected, "{plan}");
            let path = format!("{BASE}/directory/list/room/{}", quoted(&room_id));
            let listed = alice.get(&path).await.ok()["visibility"] == "public";
            assert_eq!(listed, plan["visibility"] == "public", "{plan}");
        }
        // The name of the plan comes last.
        let name = json!({ "type": "m.room.name", "state_key": "", "content": { "name": "b" } });
        let room_id = create(&alice, json!({ "name": "a", "initial_state": [name] })).await;
        let name = get_state(&alice, &room_id, "m.room.name", "").await.ok();
        assert_eq!(name["name"], "a");
        // What of the levels isn't named stays as it would be.
        let levels = json!({ "invite": 30, "events": { "m.room.name": 0 } });
        let plan = json!({ "power_level_content_override": levels });
        let room_id = create(&alice, plan).await;
        let levels = get_state(&alice, &room_id, "m.room.power_levels", "")
            .await
            .ok();
        assert_eq!(
            (&levels["invite"], &levels["ban"]),
            (&json!(30), &json!(50))
        );
        assert_eq!(levels["events"], json!({ "m.room.name": 0 }));
    })
    .await;
}
