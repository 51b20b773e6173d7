//! Sending events and redacting them.

use parley_conformance::on_each_engine;
use serde_json::{Value, json};

use super::{
    create, create_public, event_id, get_event, get_state, join, quoted, room_path, say, set_state,
    try_say,
};

#[tokio::test]
async fn what_was_sent_is_read_back_as_a_client_sees_events() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let id = say(&alice, &room_id, "hello").await;
        let event = get_event(&alice, &room_id, &id).await.ok();
        assert_eq!(event["event_id"], id.as_str());
        assert_eq!(event["room_id"], room_id.as_str());
        assert_eq!(event["sender"], alice.user_id.as_str());
        assert_eq!(event["type"], "m.room.message");
        assert_eq!(
            event["content"],
            json!({ "msgtype": "m.text", "body": "hello" })
        );
        assert!(event["origin_server_ts"].is_u64());
        assert!(event["unsigned"]["age"].is_u64());
        assert_eq!(event["unsigned"]["transaction_id"], "hello");
        assert_eq!(event["unsigned"]["membership"], "join");
        for hidden in [
            "auth_events",
            "prev_events",
            "hashes",
            "signatures",
            "depth",
            "state_key",
        ] {
            assert!(event.get(hidden).is_none(), "{hidden}: {event}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_no_event_content_is_refused() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let path = room_path(&room_id, "send/m.room.message/1");
        let put =
            async |body: &'static str| alice.send(reqwest::Method::PUT, &path, Some(body)).await;
        put("\"text\"").await.is_refused(400, "M_BAD_JSON");
        put("[]").await.is_refused(400, "M_BAD_JSON");
        put("{\"a\":1.5}").await.is_refused(400, "M_BAD_JSON");
        put("{\"a\":9007199254740993}")
            .await
            .is_refused(400, "M_BAD_JSON");
        put("{\"a\":").await.is_refused(400, "M_NOT_JSON");
        put("").await.is_refused(400, "M_NOT_JSON");
        put("{} {}").await.is_refused(400, "M_NOT_JSON");
        put("{\"msgtype\":\"m.text\",\"body\":\"\"}").await.ok();
    })
    .await;
}

#[tokio::test]
async fn an_event_over_the_size_limit_is_refused_and_the_room_lives_on() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        // The content fits, the event around it doesn't.
        let nearly = "x".repeat(65_400);
        try_say(&alice, &room_id, &nearly, "0")
            .await
            .is_refused(413, "M_TOO_LARGE");
        let large = "x".repeat(70_000);
        try_say(&alice, &room_id, &large, "1")
            .await
            .is_refused(413, "M_TOO_LARGE");
        let path = room_path(&room_id, "state/marvel.universe.fate");
        alice
            .put(&path, json!({ "body": large }))
            .await
            .is_refused(413, "M_TOO_LARGE");
        let long = "t".repeat(256);
        let path = room_path(&room_id, &format!("send/{long}/2"));
        alice
            .put(&path, json!({}))
            .await
            .is_refused(413, "M_TOO_LARGE");
        try_say(&alice, &room_id, "small", "1").await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_repeated_transaction_is_the_same_event_also_after_a_restart() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let other_room = create(&alice, json!({})).await;
        let first = event_id(&try_say(&alice, &room_id, "one", "txn").await.ok());
        let again = event_id(&try_say(&alice, &room_id, "two", "txn").await.ok());
        assert_eq!(first, again);
        let elsewhere = event_id(&try_say(&alice, &other_room, "one", "txn").await.ok());
        assert_ne!(first, elsewhere);
        let path = room_path(&room_id, "send/com.example/txn");
        let of_other_type = event_id(&alice.put(&path, json!({})).await.ok());
        assert_ne!(first, of_other_type);
        server.restart().await;
        let after = event_id(&try_say(&alice, &room_id, "three", "txn").await.ok());
        assert_eq!(first, after);
        let fresh = event_id(&try_say(&alice, &room_id, "four", "txn2").await.ok());
        assert_ne!(first, fresh);
    })
    .await;
}

#[tokio::test]
async fn a_transaction_older_than_what_is_remembered_is_still_not_made_twice() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({})).await;
        let bobs_room = create(&bob, json!({})).await;
        let first = say(&alice, &room_id, "first").await;
        for batch in 0..6 {
            let sends = (0..100).map(async |number: usize| {
                say(&alice, &room_id, &format!("m{batch}-{number}")).await
            });
            futures::future::join_all(sends).await;
        }
        server.restart().await;
        // The repetition fails what is committed together with it, and nobody but the database notices.
        let others =
            (0..20).map(async |number: usize| say(&bob, &bobs_room, &format!("m{number}")).await);
        let (again, _) = tokio::join!(
            try_say(&alice, &room_id, "changed", "first"),
            futures::future::join_all(others)
        );
        assert_eq!(event_id(&again.ok()), first);
        say(&alice, &room_id, "last").await;
        let page = alice
            .get(&room_path(&room_id, "messages?dir=b&limit=1000"))
            .await
            .ok();
        assert_eq!(page["chunk"].as_array().unwrap().len(), 6 + 602);
        let page = bob
            .get(&room_path(&bobs_room, "messages?dir=b&limit=1000"))
            .await
            .ok();
        assert_eq!(page["chunk"].as_array().unwrap().len(), 6 + 20);
    })
    .await;
}

#[tokio::test]
async fn equal_requests_at_once_make_one_event() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let sends = (0..8).map(|_| try_say(&alice, &room_id, "once", "txn"));
        let answers = futures::future::join_all(sends).await;
        let mut ids: Vec<String> = answers
            .into_iter()
            .map(|answer| event_id(&answer.ok()))
            .collect();
        ids.dedup();
        assert_eq!(ids.len(), 1);
        let page = alice
            .get(&room_path(&room_id, "messages?dir=b&limit=3"))
            .await
            .ok();
        let texts: Vec<&Value> = page["chunk"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| &event["content"]["body"])
            .collect();
        assert_eq!(texts, [&json!("once"), &Value::Null, &Value::Null]);
    })
    .await;
}

#[tokio::test]
async fn transactions_belong_to_a_device() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let other = alice.log_in_again().await;
        let room_id = create(&alice, json!({})).await;
        let one = event_id(&try_say(&alice, &room_id, "hi", "txn").await.ok());
        let two = event_id(&try_say(&other, &room_id, "hi", "txn").await.ok());
        assert_ne!(one, two);
        let event = get_event(&other, &room_id, &one).await.ok();
        assert!(event["unsigned"].get("transaction_id").is_none(), "{event}");
    })
    .await;
}

#[tokio::test]
async fn many_senders_in_one_room_all_get_through() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let sends = (0..60).map(async |number: usize| {
            let who = [&alice, &bob][number % 2];
            say(who, &room_id, &format!("m{number}")).await
        });
        let mut ids = futures::future::join_all(sends).await;
        let page = alice
            .get(&room_path(&room_id, "messages?dir=b&limit=60"))
            .await
            .ok();
        let mut stored: Vec<String> = page["chunk"]
            .as_array()
            .unwrap()
            .iter()
            .map(event_id)
            .collect();
        ids.sort_unstable();
        stored.sort_unstable();
        assert_eq!(ids, stored);
    })
    .await;
}

#[tokio::test]
async fn what_was_redacted_is_gone_everywhere() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for version in ["2", "3", "10", "11", "12"] {
            let room_id = create(&alice, json!({ "room_version": version })).await;
            let secret = say(&alice, &room_id, "secret").await;
            let path = room_path(&room_id, &format!("redact/{}/txn", quoted(&secret)));
            let redaction = event_id(&alice.put(&path, json!({ "reason": "oops" })).await.ok());
            let again = event_id(&alice.put(&path, json!({ "reason": "oops" })).await.ok());
            assert_eq!(redaction, again);
            let event = get_event(&alice, &room_id, &secret).await.ok();
            assert_eq!(event["content"], json!({}));
            let because = &event["unsigned"]["redacted_because"];
            assert_eq!(because["event_id"], redaction.as_str());
            assert_eq!(because["content"]["reason"], "oops");
            assert_eq!(because["redacts"], secret.as_str());
            for path in [
                "messages?dir=b",
                "messages?dir=f&limit=100",
                &format!("context/{}", quoted(&secret)),
            ] {
                let answer = alice.get(&room_path(&room_id, path)).await.ok().to_string();
                assert!(!answer.contains("\"secret\",\"msgtype\""), "{answer}");
                assert!(answer.contains("redacted_because"), "{answer}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_redacted_state_event_is_gone_from_the_state_and_from_its_successor() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let topic = json!({ "topic": "secret" });
        let first = event_id(
            &set_state(&alice, &room_id, "m.room.topic", "", topic)
                .await
                .ok(),
        );
        let second = set_state(
            &alice,
            &room_id,
            "m.room.topic",
            "",
            json!({ "topic": "public" }),
        )
        .await;
        let second = event_id(&second.ok());
        let event = get_event(&alice, &room_id, &second).await.ok();
        assert_eq!(event["unsigned"]["prev_content"]["topic"], "secret");
        assert_eq!(event["unsigned"]["replaces_state"], first.as_str());
        assert_eq!(event["unsigned"]["prev_sender"], alice.user_id.as_str());
        let redact = async |id: &str| {
            let path = room_path(&room_id, &format!("redact/{}/{}", quoted(id), quoted(id)));
            alice.put(&path, json!({})).await.ok();
        };
        redact(&first).await;
        for path in ["state", "messages?dir=b"] {
            let answer = alice.get(&room_path(&room_id, path)).await.ok().to_string();
            assert!(!answer.contains("secret"), "{answer}");
        }
        redact(&second).await;
        let topic = get_state(&alice, &room_id, "m.room.topic", "").await.ok();
        assert_eq!(topic, json!({}));
        server.restart().await;
        let topic = get_state(&alice, &room_id, "m.room.topic", "").await.ok();
        assert_eq!(topic, json!({}));
    })
    .await;
}

#[tokio::test]
async fn others_events_are_redacted_only_with_power() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let by_alice = say(&alice, &room_id, "a").await;
        let by_bob = say(&bob, &room_id, "b").await;
        let redact = async |who: &parley_conformance::Client, id: &str, txn: &str| {
            let path = room_path(&room_id, &format!("redact/{}/{txn}", quoted(id)));
            who.put(&path, json!({})).await
        };
        redact(&bob, &by_alice, "1")
            .await
            .is_refused(403, "M_FORBIDDEN");
        redact(&bob, &by_bob, "2").await.ok();
        redact(&alice, "$nothing", "3")
            .await
            .is_refused(404, "M_NOT_FOUND");
        let path = room_path(&room_id, "send/m.room.redaction/4");
        bob.put(&path, json!({ "redacts": by_alice }))
            .await
            .is_refused(403, "M_FORBIDDEN");
        bob.put(&path, json!({}))
            .await
            .is_refused(400, "M_MISSING_PARAM");
        alice.put(&path, json!({ "redacts": by_alice })).await.ok();
        let event = get_event(&alice, &room_id, &by_alice).await.ok();
        assert_eq!(event["content"], json!({}));
    })
    .await;
}
