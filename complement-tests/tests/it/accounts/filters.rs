//! Stored filters.

use parley_conformance::{Answer, Client, on_each_engine};
use serde_json::{Value, json};

fn path(client: &Client) -> String {
    format!("/_matrix/client/v3/user/{}/filter", client.user_id)
}

async fn create(client: &Client, filter: Value) -> Answer {
    client.post(&path(client), filter).await
}

async fn get(client: &Client, id: &str) -> Answer {
    client.get(&format!("{}/{id}", path(client))).await
}

fn id(answer: Answer) -> String {
    answer.ok()["filter_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_filter_comes_back_as_it_was_sent() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let filter = json!({
            "room": { "timeline": { "limit": 10, "types": ["m.room.message"] } },
            "event_fields": ["content"],
            "org.example.unknown": { "kept": true },
        });
        let id = id(create(&alice, filter.clone()).await);
        assert_eq!(get(&alice, &id).await.ok(), filter);
        server.restart().await;
        assert_eq!(get(&alice, &id).await.ok(), filter);
    })
    .await;
}

#[tokio::test]
async fn the_same_filter_is_stored_once_and_another_has_another_number() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let one = id(create(&alice, json!({ "room": { "rooms": [] } })).await);
        let same = id(create(&alice, json!({ "room": { "rooms": [] } })).await);
        let other = id(create(&alice, json!({})).await);
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_eq!(get(&alice, &other).await.ok(), json!({}));
    })
    .await;
}

#[tokio::test]
async fn what_is_no_filter_is_refused() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for filter in [
            json!({ "presence": "x" }),
            json!({ "room": "x" }),
            json!({ "room": { "timeline": "x" } }),
            json!({ "room": { "state": "x" } }),
            json!({ "room": { "ephemeral": "x" } }),
            json!({ "room": { "account_data": "x" } }),
            json!({ "room": { "timeline": { "rooms": "x" } } }),
            json!({ "room": { "timeline": { "rooms": ["not_a_room_id"] } } }),
            json!({ "room": { "timeline": { "not_rooms": "x" } } }),
            json!({ "room": { "timeline": { "senders": ["not_a_sender_id"] } } }),
            json!({ "room": { "timeline": { "not_senders": "x" } } }),
            json!({ "room": { "timeline": { "types": [1] } } }),
            json!({ "room": { "timeline": { "not_types": "x" } } }),
            json!({ "account_data": { "types": "x" } }),
        ] {
            let answer = create(&alice, filter).await;
            answer.is_refused(400, "M_BAD_JSON");
        }
    })
    .await;
}

#[tokio::test]
async fn a_filter_has_a_size_and_a_user_so_many_of_them() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let types = vec!["m.room.message"; 5_000];
        let answer = create(&alice, json!({ "account_data": { "types": types } })).await;
        answer.is_refused(413, "M_TOO_LARGE");

        let first = id(create(&alice, json!({})).await);
        for limit in 1..=200 {
            create(
                &alice,
                json!({ "room": { "timeline": { "limit": limit } } }),
            )
            .await
            .ok();
        }
        // The oldest made room for the newest.
        get(&alice, &first).await.is_refused(404, "M_NOT_FOUND");
        get(&alice, "2").await.ok();
    })
    .await;
}

#[tokio::test]
async fn filters_are_of_one_user_only() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let id = id(create(&alice, json!({})).await);
        let theirs = format!("{}/{id}", path(&alice));
        bob.get(&theirs).await.is_refused(403, "M_FORBIDDEN");
        let answer = bob.post(&path(&alice), json!({})).await;
        answer.is_refused(403, "M_FORBIDDEN");
        for unknown in [&*id, "-1", "x", "9999999999999999999999"] {
            get(&bob, unknown).await.is_refused(404, "M_NOT_FOUND");
        }
    })
    .await;
}
