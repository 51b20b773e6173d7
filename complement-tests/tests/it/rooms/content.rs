//! What events may hold.

use parley_conformance::on_each_engine;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    act, create, create_public, event_id, get_event, get_state, join, room_path, send, set_state,
};

#[tokio::test]
async fn a_message_has_a_kind_and_a_text() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        for content in [
            json!({}),
            json!({ "msgtype": "m.text" }),
            json!({ "body": "hello" }),
            json!({ "msgtype": "m.text", "body": 1 }),
            json!({ "msgtype": null, "body": "hello" }),
        ] {
            let answer = send(&alice, &room_id, "m.room.message", content).await;
            answer.is_refused(400, "M_BAD_JSON");
        }
        let content = json!({ "msgtype": "com.example.own", "body": "" });
        send(&alice, &room_id, "m.room.message", content).await.ok();
        send(&alice, &room_id, "com.example.other", json!({}))
            .await
            .ok();
    })
    .await;
}

#[tokio::test]
async fn numbers_are_integers_that_every_client_can_hold() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        for (index, (number, fits)) in [
            ("9007199254740991", true),
            ("-9007199254740991", true),
            ("9007199254740992", false),
            ("-9007199254740992", false),
            ("1e400", false),
            ("1.5", false),
            ("1.0", false),
        ]
        .into_iter()
        .enumerate()
        {
            for path in [
                format!("send/com.example.number/{index}"),
                "state/com.example.number/".to_owned(),
            ] {
                let body = format!("{{\"deep\":[{{\"number\":{number}}}]}}");
                let path = room_path(&room_id, &path);
                let answer = alice.send(Method::PUT, &path, Some(body)).await;
                if fits {
                    answer.ok();
                } else {
                    answer.is_refused(400, "M_BAD_JSON");
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn any_text_comes_back_as_it_was_sent() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let text = "null \0, quote \", \u{10ffff}, \u{202e}, e\u{301}, \u{1f469}\u{200d}\u{1f680}";
        let content = json!({ "msgtype": "m.text", "body": text, "com.example.\0": [] });
        let sent = send(&alice, &room_id, "m.room.message", content.clone()).await;
        let event = get_event(&alice, &room_id, &event_id(&sent.ok()))
            .await
            .ok();
        assert_eq!(event["content"], content);
        set_state(
            &alice,
            &room_id,
            "com.example",
            "\u{e9}/?#%",
            content.clone(),
        )
        .await
        .ok();
        let state = get_state(&alice, &room_id, "com.example", "\u{e9}/?#%").await;
        assert_eq!(state.ok(), content);
        // Half a character.
        let path = room_path(&room_id, "send/com.example/1");
        let body = "{\"body\":\"\\ud800\"}";
        let answer = alice.send(Method::PUT, &path, Some(body)).await;
        answer.is_refused(400, "M_BAD_JSON");
    })
    .await;
}

#[tokio::test]
async fn types_and_state_keys_have_at_most_255_bytes_and_no_null() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let longest = "x".repeat(255);
        let too_long = "x".repeat(256);
        send(&alice, &room_id, &longest, json!({})).await.ok();
        let answer = send(&alice, &room_id, &too_long, json!({})).await;
        answer.is_refused(413, "M_TOO_LARGE");
        set_state(&alice, &room_id, &longest, &longest, json!({}))
            .await
            .ok();
        // Bytes count, not characters.
        let answer = set_state(&alice, &room_id, "x", &"\u{e9}".repeat(128), json!({})).await;
        answer.is_refused(413, "M_TOO_LARGE");
        let answer = set_state(&alice, &room_id, &too_long, "", json!({})).await;
        answer.is_refused(413, "M_TOO_LARGE");
        let answer = set_state(&alice, &room_id, "x", "a\0b", json!({})).await;
        answer.is_refused(400, "M_INVALID_PARAM");
        let answer = send(&alice, &room_id, "a%00b", json!({})).await;
        answer.is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn ids_are_at_most_255_bytes_long() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let long = "x".repeat(255);
        for path in [
            format!("/_matrix/client/v3/rooms/!{long}:parley.test/state"),
            format!("/_matrix/client/v3/profile/@{long}:parley.test"),
            format!("/_matrix/client/v3/directory/room/%23{long}:parley.test"),
        ] {
            alice.get(&path).await.is_refused(400, "M_INVALID_PARAM");
        }
        // What begins with another sigil, or none, is no id either.
        for path in [
            "/_matrix/client/v3/rooms/none/state".to_owned(),
            "/_matrix/client/v3/profile/none".to_owned(),
            room_path(&room_id, "event/none"),
        ] {
            alice.get(&path).await.is_refused(400, "M_INVALID_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn state_of_a_known_type_has_the_shape_that_clients_rely_on() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        for (event_type, content) in [
            ("m.room.join_rules", json!({})),
            ("m.room.join_rules", json!({ "join_rule": 1 })),
            ("m.room.guest_access", json!({ "guest_access": true })),
            ("m.room.encryption", json!({})),
            ("m.room.name", json!({ "name": 1 })),
            ("m.room.topic", json!({ "topic": ["x"] })),
            ("m.room.tombstone", json!({ "replacement_room": 1 })),
            ("m.room.server_acl", json!({ "allow": "*" })),
            (
                "m.room.server_acl",
                json!({ "allow": ["*"], "deny": ["parley.test"] }),
            ),
            ("m.room.server_acl", json!({ "deny": [] })),
            ("m.room.power_levels", json!({ "ban": "fifty" })),
            ("m.room.power_levels", json!({ "users": [] })),
            ("m.room.canonical_alias", json!({ "alt_aliases": "x" })),
        ] {
            let answer = set_state(&alice, &room_id, event_type, "", content.clone()).await;
            answer.is_refused(400, "M_BAD_JSON");
            let initial = json!({ "type": event_type, "state_key": "", "content": content });
            let plan = json!({ "initial_state": [initial] });
            if event_type != "m.room.canonical_alias" {
                let answer = alice.post("/_matrix/client/v3/createRoom", plan).await;
                answer.is_refused(400, "M_INVALID_ROOM_STATE");
            }
        }
        for (event_type, content) in [
            ("m.room.name", json!({})),
            ("m.room.topic", json!({ "topic": null })),
            // Nobody fulfils a condition that is none.
            (
                "m.room.join_rules",
                json!({ "join_rule": "restricted", "allow": "x" }),
            ),
            (
                "m.room.server_acl",
                json!({ "allow": ["*"], "deny": ["evil.test"] }),
            ),
            ("com.example", json!({ "name": 1 })),
        ] {
            set_state(&alice, &room_id, event_type, "", content)
                .await
                .ok();
        }
    })
    .await;
}

#[tokio::test]
async fn levels_are_texts_only_in_versions_that_know_no_better() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for (version, old) in [("3", true), ("9", true), ("10", false), ("12", false)] {
            let room_id = create(&alice, json!({ "room_version": version })).await;
            let levels = get_state(&alice, &room_id, "m.room.power_levels", "")
                .await
                .ok();
            let set = async |field: &str, level: Value| {
                let mut levels = levels.clone();
                levels[field] = level;
                set_state(&alice, &room_id, "m.room.power_levels", "", levels).await
            };
            let as_text = set("kick", json!("50")).await;
            if old {
                as_text.ok();
            } else {
                as_text.is_refused(400, "M_BAD_JSON");
            }
            for level in [json!("x"), json!(true), json!(null), json!([])] {
                set("kick", level).await.is_refused(400, "M_BAD_JSON");
            }
            set("kick", json!(51)).await.ok();
        }
    })
    .await;
}

#[tokio::test]
async fn a_room_is_created_once() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let answer = send(&alice, &room_id, "m.room.create", json!({})).await;
        answer.is_refused(400, "M_BAD_JSON");
        let answer = set_state(&alice, &room_id, "m.room.create", "", json!({})).await;
        answer.is_refused(400, "M_INVALID_PARAM");
        let answer = set_state(&alice, &room_id, "m.room.create", "other", json!({})).await;
        answer.is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn a_state_key_that_is_a_user_id_is_that_users_own() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let set =
            async |key: &str| set_state(&alice, &room_id, "com.example", key, json!({})).await;
        set(&bob.user_id).await.is_refused(403, "M_FORBIDDEN");
        set("@nobody:other.test")
            .await
            .is_refused(403, "M_FORBIDDEN");
        set("@not an id").await.is_refused(403, "M_FORBIDDEN");
        set(&alice.user_id).await.ok();
        set(&alice.user_id[1..]).await.ok();
    })
    .await;
}

#[tokio::test]
async fn memberships_are_changed_by_state_events_under_the_same_rules() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let room_id = create(&alice, json!({})).await;
        let put = async |user_id: &str, content: Value| {
            set_state(&alice, &room_id, "m.room.member", user_id, content).await
        };
        let to = |membership: &str| json!({ "membership": membership });
        put(&bob.user_id, to("join"))
            .await
            .is_refused(403, "M_FORBIDDEN");
        put(&bob.user_id, to("knock"))
            .await
            .is_refused(403, "M_FORBIDDEN");
        put(&bob.user_id, to("other"))
            .await
            .is_refused(403, "M_FORBIDDEN");
        put(&bob.user_id, json!({}))
            .await
            .is_refused(400, "M_BAD_JSON");
        put("bob", to("invite"))
            .await
            .is_refused(403, "M_FORBIDDEN");
        put(&bob.user_id, to("invite")).await.ok();
        join(&bob, &room_id).await.ok();
        put(&bob.user_id, to("ban")).await.ok();
        put(&bob.user_id, to("invite"))
            .await
            .is_refused(403, "M_FORBIDDEN");
        put(&bob.user_id, to("leave")).await.ok();
        act(&alice, &room_id, "invite", &bob).await.ok();
        // Nobody vouches for an address of whom nobody knows the key.
        let invited = json!({ "display_name": "Carol" });
        set_state(
            &alice,
            &room_id,
            "m.room.third_party_invite",
            "token",
            invited,
        )
        .await
        .ok();
        let signed = json!({ "mxid": carol.user_id, "token": "token", "signatures": {} });
        let content = json!({
            "membership": "invite",
            "third_party_invite": { "display_name": "Carol", "signed": signed },
        });
        put(&carol.user_id, content)
            .await
            .is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn no_null_character_makes_the_server_fail() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({ "preset": "public_chat", "name": "a\0b" })).await;
        join(&bob, &room_id).await.ok();
        let base = "/_matrix/client/v3";
        let refused = [
            (
                format!("{base}/createRoom"),
                json!({ "initial_state": [
                { "type": "com.example\0", "state_key": "", "content": {} },
            ] }),
            ),
            (
                format!("{base}/createRoom"),
                json!({ "initial_state": [
                { "type": "com.example", "state_key": "\0", "content": {} },
            ] }),
            ),
            (
                format!("{base}/createRoom"),
                json!({ "room_alias_name": "a\0b" }),
            ),
            (room_path(&room_id, "report"), json!({ "reason": "\0" })),
            (
                format!("{base}/users/{}/report", bob.user_id),
                json!({ "reason": "\0" }),
            ),
        ];
        for (path, body) in refused {
            let answer = alice.post(&path, body).await;
            assert_eq!(answer.status, 400, "{answer:?}");
        }
        let path = format!("{base}/presence/{}/status", alice.user_id);
        let body = json!({ "presence": "online", "status_msg": "\0" });
        alice
            .put(&path, body)
            .await
            .is_refused(400, "M_INVALID_PARAM");
        let path = format!("{base}/profile/{}/displayname", alice.user_id);
        alice
            .put(&path, json!({ "displayname": "pear \0" }))
            .await
            .ok();
        let content = json!({ "msgtype": "m.text", "body": "pear \0", "formatted_body": "\0" });
        send(&alice, &room_id, "m.room.message", content).await.ok();
        let search = json!({ "search_categories": { "room_events": { "search_term": "pear" } } });
        let found = alice.post(&format!("{base}/search"), search).await.ok();
        let results = &found["search_categories"]["room_events"]["results"];
        assert_eq!(results.as_array().unwrap().len(), 1);
        let null = json!({ "search_categories": { "room_events": { "search_term": "\0" } } });
        alice.post(&format!("{base}/search"), null).await.ok();
        for term in ["pear", "\0"] {
            let body = json!({ "search_term": term });
            let path = format!("{base}/user_directory/search");
            bob.post(&path, body).await.ok();
            let filter = json!({ "filter": { "generic_search_term": term } });
            bob.post(&format!("{base}/publicRooms"), filter).await.ok();
        }
        bob.get(&format!("{base}/sync")).await.ok();
    })
    .await;
}

#[tokio::test]
async fn ids_are_taken_encoded_or_as_they_are() {
    on_each_engine(async |server| {
        let user = server.register("we=ird/na+me.-_").await;
        let room_id = create_public(&user).await;
        let base = "/_matrix/client/v3";
        let plain = user.user_id.clone();
        let slash = plain.replace('/', "%2F");
        for id in [
            slash.as_str(),
            &slash.to_lowercase(),
            &super::quoted(&plain),
        ] {
            let profile = user.get(&format!("{base}/profile/{id}")).await;
            profile.ok();
            let path = format!("{base}/user/{id}/account_data/com.example");
            user.put(&path, json!({})).await.ok();
            let path = room_path(&room_id, &format!("state/m.room.member/{id}"));
            assert_eq!(user.get(&path).await.ok()["membership"], "join");
        }
        for id in [room_id.clone(), super::quoted(&room_id)] {
            user.get(&format!("{base}/rooms/{id}/state")).await.ok();
        }
        let alias = super::quoted("#a/b+c?d%:parley.test");
        let path = format!("{base}/directory/room/{alias}");
        user.put(&path, json!({ "room_id": room_id })).await.ok();
        assert_eq!(user.get(&path).await.ok()["room_id"], room_id);
        user.post(&format!("{base}/join/{alias}"), json!({}))
            .await
            .ok();
    })
    .await;
}
