//! What differs from receiver to receiver.

use parley_conformance::{Client, on_each_engine};
use serde_json::{Value, json};

use super::{joined, sync};
use crate::rooms::{
    BASE, act, act_self, create, create_public, event_id, get_event, join, quoted, redact,
    room_path, room_path_v1, say, say_related, set_state,
};

/// An event as a client's first /sync tells it.
async fn synced(client: &Client, room_id: &str, event_id: &str) -> Value {
    let told = sync(client, None, json!({})).await;
    let events = joined(&told, room_id)["timeline"]["events"].clone();
    let mut events = events.as_array().unwrap().iter();
    events
        .find(|event| event["event_id"] == event_id)
        .unwrap()
        .clone()
}

#[tokio::test]
async fn a_state_event_tells_what_it_took_the_place_of() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({ "name": "one" })).await;
        let state = alice.get(&room_path(&room_id, "state")).await.ok();
        let mut events = state.as_array().unwrap().iter();
        let first = events.find(|event| event["type"] == "m.room.name").unwrap();
        assert!(first["unsigned"].get("replaces_state").is_none(), "{first}");
        let name = json!({ "name": "two" });
        let second = set_state(&alice, &room_id, "m.room.name", "", name).await;
        let second = event_id(&second.ok());
        for event in [
            synced(&alice, &room_id, &second).await,
            get_event(&alice, &room_id, &second).await.ok(),
        ] {
            let unsigned = &event["unsigned"];
            assert_eq!(unsigned["prev_content"], json!({ "name": "one" }));
            assert_eq!(unsigned["replaces_state"], first["event_id"]);
            assert!(unsigned["age"].is_u64(), "{unsigned}");
        }
        // What was redacted says nothing there either.
        let first = first["event_id"].as_str().unwrap();
        redact(&alice, &room_id, first).await.ok();
        let event = get_event(&alice, &room_id, &second).await.ok();
        assert_eq!(event["unsigned"]["prev_content"], json!({}));
    })
    .await;
}

#[tokio::test]
async fn each_receiver_is_told_their_own_membership_at_an_event() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        let before = say(&alice, &room_id, "before").await;
        act(&alice, &room_id, "invite", &bob).await.ok();
        let invited = say(&alice, &room_id, "invited").await;
        join(&bob, &room_id).await.ok();
        let joined = say(&alice, &room_id, "joined").await;
        act_self(&bob, &room_id, "leave").await.ok();
        let left = say(&alice, &room_id, "left").await;
        join(&bob, &room_id).await.ok();
        for (event, membership) in [
            (before, "leave"),
            (invited, "invite"),
            (joined, "join"),
            (left, "leave"),
        ] {
            let by_event = get_event(&bob, &room_id, &event).await.ok();
            for told in [synced(&bob, &room_id, &event).await, by_event] {
                assert_eq!(told["unsigned"]["membership"], membership, "{told}");
            }
            let told = synced(&alice, &room_id, &event).await;
            assert_eq!(told["unsigned"]["membership"], "join");
        }
    })
    .await;
}

#[tokio::test]
async fn a_transaction_is_told_to_the_device_that_made_it() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let phone = alice.log_in_again().await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let said = say(&alice, &room_id, "said").await;
        for (client, expected) in [
            (&alice, json!("said")),
            (&phone, Value::Null),
            (&bob, Value::Null),
        ] {
            let event = synced(client, &room_id, &said).await;
            assert_eq!(event["unsigned"]["transaction_id"], expected);
            let event = get_event(client, &room_id, &said).await.ok();
            assert_eq!(event["unsigned"]["transaction_id"], expected);
        }
    })
    .await;
}

#[tokio::test]
async fn a_transaction_is_told_to_its_device_wherever_the_event_is() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let phone = alice.log_in_again().await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let root = say(&alice, &room_id, "root").await;
        let said = say_related(&alice, &room_id, "said", "m.thread", &root).await;
        let v1 = |rest: &str| room_path_v1(&room_id, rest);
        let paths = [
            room_path(&room_id, "messages?dir=b&limit=50"),
            room_path(&room_id, &format!("context/{}", quoted(&said))),
            v1(&format!("relations/{}", quoted(&root))),
            v1("threads"),
        ];
        let search = json!({ "search_categories": { "room_events": { "search_term": "root" } } });
        for (client, is_told) in [(&alice, true), (&phone, false), (&bob, false)] {
            let mut answers = Vec::new();
            for path in &paths {
                answers.push(client.get(path).await.ok());
            }
            let path = format!("{BASE}/search");
            answers.push(client.post(&path, search.clone()).await.ok());
            for answer in answers {
                let text = answer.to_string();
                assert_eq!(text.contains("transaction_id"), is_told, "{text}");
            }
        }
    })
    .await;
}
