//! The state of rooms, power levels, names.

use parley_conformance::{Client, on_each_engine};
use serde_json::{Value, json};

use super::{
    BASE, act, create, create_public, event_id, get_state, join, quoted, room_path, set_state,
    try_say,
};

#[tokio::test]
async fn an_empty_state_key_may_be_written_in_each_way() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        for (number, base) in ["/_matrix/client/v3", "/_matrix/client/r0"]
            .into_iter()
            .enumerate()
        {
            for (slash, ending) in ["", "/"].into_iter().enumerate() {
                let path = format!(
                    "{base}/rooms/{}/state/m.room.name{ending}",
                    quoted(&room_id)
                );
                let content = json!({ "name": format!("{number}{slash}") });
                alice.put(&path, content.clone()).await.ok();
                assert_eq!(alice.get(&path).await.ok(), content);
            }
        }
        let path = format!(
            "{BASE}/rooms/{}/state/com.example.key/a%2Fb%20c",
            quoted(&room_id)
        );
        alice.put(&path, json!({ "x": 1 })).await.ok();
        let answer = alice.get(&format!("{path}?format=event")).await.ok();
        assert_eq!(answer["state_key"], "a/b c");
        assert_eq!(answer["room_id"], room_id.as_str());
        assert_eq!(answer["sender"], alice.user_id.as_str());
        assert_eq!(answer["content"]["x"], 1);
        alice
            .get(&format!("{path}?format=xml"))
            .await
            .is_refused(400, "M_INVALID_PARAM");
        get_state(&alice, &room_id, "m.room.topic", "")
            .await
            .is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn setting_what_is_there_already_makes_no_event() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let set = async |name: &str| {
            event_id(
                &set_state(&alice, &room_id, "m.room.name", "", json!({ "name": name }))
                    .await
                    .ok(),
            )
        };
        let first = set("one").await;
        assert_eq!(set("one").await, first);
        assert_ne!(set("two").await, first);
        assert_ne!(set("one").await, first);
    })
    .await;
}

#[tokio::test]
async fn the_whole_state_holds_each_place_once() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({ "name": "one" })).await;
        set_state(
            &alice,
            &room_id,
            "m.room.name",
            "",
            json!({ "name": "two" }),
        )
        .await
        .ok();
        for _ in 0..2 {
            let state = alice.get(&room_path(&room_id, "state")).await.ok();
            let mut types: Vec<&str> = state
                .as_array()
                .unwrap()
                .iter()
                .map(|event| event["type"].as_str().unwrap())
                .collect();
            types.sort_unstable();
            assert_eq!(
                types,
                [
                    "m.room.create",
                    "m.room.guest_access",
                    "m.room.history_visibility",
                    "m.room.join_rules",
                    "m.room.member",
                    "m.room.name",
                    "m.room.power_levels",
                ]
            );
            assert!(state.to_string().contains("\"two\""));
            server.restart().await;
        }
    })
    .await;
}

#[tokio::test]
async fn state_that_a_server_must_not_take_is_refused() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let refused =
            async |event_type: &str, key: &str, content: Value, status: u16, code: &str| {
                set_state(&alice, &room_id, event_type, key, content)
                    .await
                    .is_refused(status, code);
            };
        refused("m.room.create", "", json!({}), 400, "M_INVALID_PARAM").await;
        refused(
            "m.room.history_visibility",
            "",
            json!({ "history_visibility": "x" }),
            400,
            "M_INVALID_PARAM",
        )
        .await;
        refused(
            "com.example",
            "@bob:parley.test",
            json!({}),
            403,
            "M_FORBIDDEN",
        )
        .await;
        refused(
            "m.room.member",
            "@bob:parley.test",
            json!({ "membership": "join" }),
            403,
            "M_FORBIDDEN",
        )
        .await;
        refused(
            "m.room.power_levels",
            "",
            json!({ "users": { "bob": 1 } }),
            400,
            "M_BAD_JSON",
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn power_levels_decide_who_may_do_what() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let plan = json!({ "preset": "public_chat", "room_version": "11",
            "power_level_content_override": { "events": { "com.example.loud": 30 }, "events_default": 10 } });
        let room_id = create(&alice, plan).await;
        join(&bob, &room_id).await.ok();
        let levels = get_state(&alice, &room_id, "m.room.power_levels", "").await.ok();
        for field in ["ban", "kick", "redact", "users_default", "state_default", "events_default"] {
            assert!(levels[field].is_i64(), "{field}: {levels}");
        }
        assert_eq!(levels["users"], json!({ (alice.user_id.clone()): 100 }));
        try_say(&bob, &room_id, "quiet", "1").await.is_refused(403, "M_FORBIDDEN");
        let mut raised = levels.clone();
        raised["users"][&bob.user_id] = json!(20);
        raised["users"]["@random-other-user:their.home"] = json!(20);
        set_state(&bob, &room_id, "m.room.power_levels", "", raised.clone()).await.is_refused(403, "M_FORBIDDEN");
        set_state(&alice, &room_id, "m.room.power_levels", "", raised.clone()).await.ok();
        assert_eq!(get_state(&alice, &room_id, "m.room.power_levels", "").await.ok(), raised);
        try_say(&bob, &room_id, "heard", "1").await.ok();
        let loud = room_path(&room_id, "send/com.example.loud/1");
        bob.put(&loud, json!({})).await.is_refused(403, "M_FORBIDDEN");
        alice.put(&loud, json!({})).await.ok();
        set_state(&bob, &room_id, "m.room.name", "", json!({ "name": "x" })).await.is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn who_gives_all_power_away_gets_none_back() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({ "room_version": "10" })).await;
        let set = async |content: Value| {
            set_state(&alice, &room_id, "m.room.power_levels", "", content).await
        };
        set(json!({ "users": { (alice.user_id.clone()): 100 } }))
            .await
            .ok();
        set(json!({})).await.ok();
        set(json!({ "users": { (alice.user_id.clone()): 100 } }))
            .await
            .is_refused(403, "M_FORBIDDEN");
        assert_eq!(
            get_state(&alice, &room_id, "m.room.power_levels", "")
                .await
                .ok(),
            json!({})
        );
    })
    .await;
}

#[tokio::test]
async fn a_default_for_users_can_be_lowered_by_those_who_have_it() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let plan = json!({ "preset": "public_chat", "room_version": "10",
            "power_level_content_override": { "users_default": 100, "users": {}, "events": {} } });
        let room_id = create(&alice, plan).await;
        join(&bob, &room_id).await.ok();
        let levels = json!({ "users_default": 40, "users": {}, "events": {} });
        set_state(&bob, &room_id, "m.room.power_levels", "", levels)
            .await
            .ok();
        set_state(&bob, &room_id, "m.room.name", "", json!({ "name": "x" }))
            .await
            .is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn a_member_event_of_ones_own_keeps_what_is_added_to_it() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let content = json!({ "membership": "join", "displayname": "Al", "com.example": true });
        set_state(
            &alice,
            &room_id,
            "m.room.member",
            &alice.user_id,
            content.clone(),
        )
        .await
        .ok();
        assert_eq!(
            get_state(&alice, &room_id, "m.room.member", &alice.user_id)
                .await
                .ok(),
            content
        );
    })
    .await;
}

#[tokio::test]
async fn a_retention_that_makes_no_sense_is_refused() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let set =
            async |content| set_state(&alice, &room_id, "m.room.retention", "", content).await;
        set(json!({ "min_lifetime": 1_000, "max_lifetime": 2_000 }))
            .await
            .ok();
        set(json!({})).await.ok();
        set(json!({ "max_lifetime": "1d" }))
            .await
            .is_refused(400, "M_BAD_JSON");
        set(json!({ "max_lifetime": -1 }))
            .await
            .is_refused(400, "M_BAD_JSON");
        set(json!({ "min_lifetime": 2, "max_lifetime": 1 }))
            .await
            .is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn creators_stand_above_all_since_version_12() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let plan = json!({
            "preset": "public_chat",
            "room_version": "12",
            "creation_content": { "additional_creators": [carol.user_id] },
        });
        let room_id = create(&alice, plan).await;
        join(&bob, &room_id).await.ok();
        join(&carol, &room_id).await.ok();
        let levels = async |client: &Client, users: Value| {
            let mut levels = get_state(&alice, &room_id, "m.room.power_levels", "")
                .await
                .ok();
            levels["users"] = users;
            set_state(client, &room_id, "m.room.power_levels", "", levels).await
        };
        for creator in [&alice, &carol] {
            let users = json!({ (creator.user_id.as_str()): 100 });
            levels(&alice, users).await.is_refused(400, "M_BAD_JSON");
        }
        levels(&carol, json!({ (bob.user_id.as_str()): 100 }))
            .await
            .ok();
        for creator in [&alice, &carol] {
            for action in ["kick", "ban"] {
                act(&bob, &room_id, action, creator)
                    .await
                    .is_refused(403, "M_FORBIDDEN");
            }
        }
        let higher = json!({ (bob.user_id.as_str()): 101 });
        levels(&bob, higher).await.is_refused(403, "M_FORBIDDEN");
        let end = json!({ "body": "end", "replacement_room": "!new:parley.test" });
        let answer = set_state(&bob, &room_id, "m.room.tombstone", "", end.clone()).await;
        answer.is_refused(403, "M_FORBIDDEN");
        set_state(&carol, &room_id, "m.room.tombstone", "", end)
            .await
            .ok();
    })
    .await;
}

#[tokio::test]
async fn additional_creators_are_user_ids() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for creators in [
            json!("@bob:parley.test"),
            json!(["@bob:parley.test", 42]),
            json!(["@bob:parley.test", "bob"]),
            json!(["@bob:parley.$test"]),
        ] {
            let content = json!({ "additional_creators": creators });
            let plan = json!({ "room_version": "12", "creation_content": content });
            let answer = alice.post(&format!("{BASE}/createRoom"), plan).await;
            answer.is_refused(400, "M_INVALID_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn state_is_given_as_content_or_as_event() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({ "name": "Harbour" })).await;
        let path = |format: &str| room_path(&room_id, &format!("state/m.room.name/{format}"));
        for format in ["", "?format=content"] {
            let content = alice.get(&path(format)).await.ok();
            assert_eq!(content, json!({ "name": "Harbour" }));
        }
        let event = alice.get(&path("?format=event")).await.ok();
        assert_eq!(event["content"], json!({ "name": "Harbour" }));
        assert_eq!(event["state_key"], "");
        assert_eq!(event["sender"], alice.user_id);
        let answer = alice.get(&path("?format=x")).await;
        answer.is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}
