//! Account data.

use parley_conformance::on_each_engine;
use reqwest::Method;
use serde_json::json;

use super::{content, joined, own, room_of_two, sync, sync_until, token};
use crate::rooms::{create, quoted};

#[tokio::test]
async fn what_was_put_is_read_back_and_comes_by_sync() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let since = token(&alice).await;
        let global = own(&alice, "account_data/org.example.a");
        let of_room = own(
            &alice,
            &format!("rooms/{}/account_data/org.example.b", quoted(&room_id)),
        );
        for (path, value) in [
            (&global, json!({ "a": [1, null] })),
            (&of_room, json!({ "b": 2 })),
        ] {
            alice.get(path).await.is_refused(404, "M_NOT_FOUND");
            alice.put(path, json!({ "old": true })).await.ok();
            assert_eq!(alice.put(path, value.clone()).await.ok(), json!({}));
            assert_eq!(alice.get(path).await.ok(), value);
        }
        let changes = sync(&alice, Some(&since), "").await;
        let global = content(&changes["account_data"]["events"], "org.example.a");
        assert_eq!(global, Some(json!({ "a": [1, null] })));
        let of_room = &joined(&changes, &room_id)["account_data"]["events"];
        assert_eq!(content(of_room, "org.example.b"), Some(json!({ "b": 2 })));
        let all = sync(&alice, None, "").await;
        assert!(content(&all["account_data"]["events"], "org.example.a").is_some());
    })
    .await;
}

#[tokio::test]
async fn another_device_that_waits_is_woken() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let since = token(&alice).await;
        let other = alice.log_in_again().await;
        let path = own(&alice, "account_data/org.example.a");
        let waiting = sync_until(&alice, &since, |answer| {
            content(&answer["account_data"]["events"], "org.example.a")
        });
        let (found, put) = tokio::join!(waiting, other.put(&path, json!({ "a": 1 })));
        put.ok();
        assert_eq!(found.0, json!({ "a": 1 }));
    })
    .await;
}

#[tokio::test]
async fn it_survives_a_restart() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let path = own(&alice, "account_data/org.example.a");
        alice.put(&path, json!({ "a": 1 })).await.ok();
        server.restart().await;
        assert_eq!(alice.get(&path).await.ok(), json!({ "a": 1 }));
    })
    .await;
}

#[tokio::test]
async fn what_the_server_manages_can_be_read_but_not_put() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        for event_type in ["m.fully_read", "m.push_rules"] {
            let global = own(&alice, &format!("account_data/{event_type}"));
            let of_room = own(
                &alice,
                &format!("rooms/{}/account_data/{event_type}", quoted(&room_id)),
            );
            for path in [global, of_room] {
                let answer = alice.put(&path, json!({})).await;
                answer.is_refused(405, "M_BAD_JSON");
            }
        }
        let rules = alice.get(&own(&alice, "account_data/m.push_rules")).await;
        assert!(rules.ok()["global"]["override"].is_array());
    })
    .await;
}

#[tokio::test]
async fn it_is_for_nobody_else_and_of_no_strangers_room() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let path = own(&alice, "account_data/org.example.a");
        alice.put(&path, json!({ "a": 1 })).await.ok();
        bob.get(&path).await.is_refused(403, "M_FORBIDDEN");
        bob.put(&path, json!({}))
            .await
            .is_refused(403, "M_FORBIDDEN");
        let room_id = create(&alice, json!({})).await;
        for room_id in [room_id.as_str(), "!nowhere:parley.test"] {
            let path = own(&bob, &format!("rooms/{}/account_data/a", quoted(room_id)));
            bob.put(&path, json!({}))
                .await
                .is_refused(403, "M_FORBIDDEN");
        }
        let shared = room_of_two(&alice, &bob).await;
        let path = own(&alice, &format!("rooms/{}/account_data/a", quoted(&shared)));
        alice.put(&path, json!({ "secret": true })).await.ok();
        let all = sync(&bob, None, "").await;
        assert!(!all.to_string().contains("secret"));
    })
    .await;
}

#[tokio::test]
async fn only_objects_of_some_size_are_kept() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let path = own(&alice, "account_data/org.example.a");
        let put = async |body: &'static str| alice.send(Method::PUT, &path, Some(body)).await;
        put("[]").await.is_refused(400, "M_BAD_JSON");
        put("\"a\"").await.is_refused(400, "M_BAD_JSON");
        put("{\"a\":").await.is_refused(400, "M_NOT_JSON");
        let large = json!({ "a": "x".repeat(300_000) });
        alice.put(&path, large).await.is_refused(413, "M_TOO_LARGE");
        let long = own(&alice, &format!("account_data/{}", "t".repeat(256)));
        alice
            .put(&long, json!({}))
            .await
            .is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn any_object_is_kept_as_it_is() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let path = own(&alice, "account_data/com.example");
        // Unlike events, account data has fractions, and numbers of any size.
        let data = json!({ "a": 1.5, "b": 12345678901234567890_u64, "c": "null \0", "d": {} });
        alice.put(&path, data.clone()).await.ok();
        assert_eq!(alice.get(&path).await.ok(), data);
        let none = own(&alice, "account_data/com.example.none");
        alice.get(&none).await.is_refused(404, "M_NOT_FOUND");
        let long = own(&alice, &format!("account_data/{}", "x".repeat(256)));
        alice
            .put(&long, data)
            .await
            .is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn nothing_is_not_kept_in_the_place_of_something() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let in_room = format!("rooms/{}/account_data/com.example", quoted(&room_id));
        for path in [
            own(&alice, "account_data/com.example"),
            own(&alice, &in_room),
        ] {
            alice.put(&path, json!({ "kept": true })).await.ok();
            let answer = alice.send(Method::PUT, &path, None::<String>).await;
            answer.is_refused(400, "M_NOT_JSON");
            let answer = alice.send(Method::PUT, &path, Some("[]")).await;
            answer.is_refused(400, "M_BAD_JSON");
            assert_eq!(alice.get(&path).await.ok(), json!({ "kept": true }));
        }
    })
    .await;
}
