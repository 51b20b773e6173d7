//! What /sync tells of rooms.

mod filters;
mod gaps;
mod state;
mod summary;
mod timeline;
mod unsigned;

use std::time::Duration;

use parley_conformance::{Client, TestOptions, on_each_engine, on_each_engine_with};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::rooms::{BASE, act_self, create_public, event_id, join, quoted, room_path, say};

/// A /sync that waits for nothing.
async fn sync(client: &Client, since: Option<&Value>, filter: Value) -> Value {
    let filter = quoted(&filter.to_string());
    let since = since.map_or(String::new(), |since| {
        format!("&since={}", since.as_str().unwrap())
    });
    let path = format!("{BASE}/sync?timeout=0&filter={filter}{since}");
    client.get(&path).await.ok()
}

#[tokio::test]
async fn a_room_forgotten_right_after_leaving_is_still_told_to_be_left_but_not_from_the_start() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let with_left = json!({ "room": { "include_leave": true } });
        let before = sync(&alice, None, with_left.clone()).await["next_batch"].clone();
        act_self(&alice, &room_id, "leave").await.ok();
        act_self(&alice, &room_id, "forget").await.ok();
        say(&bob, &room_id, "alone").await;

        let told = sync(&alice, Some(&before), json!({})).await;
        let left = &told["rooms"]["leave"][&room_id];
        let events = left["timeline"]["events"].as_array().unwrap();
        let last = events.last().unwrap();
        assert_eq!(last["state_key"], alice.user_id);
        assert_eq!(last["content"]["membership"], "leave");
        assert!(told["rooms"]["join"].get(&room_id).is_none());

        let after = sync(&alice, Some(&told["next_batch"]), with_left.clone()).await;
        assert!(after.get("rooms").is_none(), "{after}");
        let anew = sync(&alice, None, with_left).await;
        assert!(anew.get("rooms").is_none(), "{anew}");
    })
    .await;
}

#[tokio::test]
async fn threads_are_counted_apart_for_clients_that_want_it() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let root = say(&alice, &room_id, "root").await;
        for (transaction, text) in [("in-1", "answer".to_owned()), ("in-2", bob.user_id.clone())] {
            let content = json!({
                "msgtype": "m.text",
                "body": text,
                "m.mentions": { "user_ids": [text] },
                "m.relates_to": { "rel_type": "m.thread", "event_id": root },
            });
            let path = room_path(&room_id, &format!("send/m.room.message/{transaction}"));
            event_id(&alice.put(&path, content).await.ok());
        }
        let apart = json!({ "room": { "timeline": { "unread_thread_notifications": true } } });
        let counts = async |filter: Value| {
            let told = sync(&bob, None, filter).await;
            let room = &told["rooms"]["join"][&room_id];
            let keys = ["unread_notifications", "unread_thread_notifications"];
            keys.map(|key| room[key].clone())
        };
        let count = |highlights, notifications| json!({ "highlight_count": highlights, "notification_count": notifications });

        assert_eq!(counts(json!({})).await, [count(1, 3), Value::Null]);
        let threads = json!({ &root: count(1, 2) });
        assert_eq!(counts(apart.clone()).await, [count(0, 1), threads]);

        let receipt = room_path(&room_id, &format!("receipt/m.read/{}", quoted(&root)));
        bob.post(&receipt, json!({ "thread_id": "main" })).await.ok();
        let threads = json!({ &root: count(1, 2) });
        assert_eq!(counts(apart.clone()).await, [count(0, 0), threads]);
        assert_eq!(counts(json!({})).await, [count(1, 2), Value::Null]);
    })
    .await;
}

#[tokio::test]
async fn a_client_waits_no_longer_than_the_administrator_allows() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.sync.max_timeout = Duration::from_millis(100);
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let since = sync(&alice, None, json!({})).await["next_batch"].clone();
        let asked = Instant::now();
        let since = since.as_str().unwrap();
        let path = format!("{BASE}/sync?timeout=600000&since={since}&set_presence=offline");
        alice.get(&path).await.ok();
        assert!(asked.elapsed() >= Duration::from_millis(100));
        assert!(asked.elapsed() < Duration::from_secs(60));
    })
    .await;
}

#[tokio::test]
async fn how_many_events_a_client_gets_of_a_room_is_up_to_it_and_to_the_administrator() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.sync.default_timeline_limit = 2;
        options.engine.sync.max_timeline_limit = 4;
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        for limit in [None, Some(1), Some(3), Some(1000)] {
            let filter = json!({ "room": { "timeline": { "limit": limit } } });
            let told = sync(&alice, None, filter).await;
            let timeline = &told["rooms"]["join"][&room_id]["timeline"];
            let expected = limit.unwrap_or(2).min(4);
            assert_eq!(timeline["events"].as_array().unwrap().len(), expected);
            assert_eq!(timeline["limited"], true);
        }
    })
    .await;
}

/// A /sync of a client that wants the state at the end of timelines.
async fn sync_after(client: &Client, since: Option<&Value>, filter: Value) -> Value {
    let filter = quoted(&filter.to_string());
    let since = since.map_or(String::new(), |since| {
        format!("&since={}", since.as_str().unwrap())
    });
    let path = format!("{BASE}/sync?timeout=0&use_state_after=true&filter={filter}{since}");
    client.get(&path).await.ok()
}

/// A joined room's section.
fn joined<'a>(told: &'a Value, room_id: &str) -> &'a Value {
    &told["rooms"]["join"][room_id]
}

/// The types of events, and the state keys of those that have one.
fn types(events: &Value) -> Vec<String> {
    let events = events.as_array().unwrap().iter();
    events
        .map(|event| {
            let event_type = event["type"].as_str().unwrap();
            match event["state_key"].as_str() {
                None | Some("") => event_type.to_owned(),
                Some(key) => format!("{event_type} {key}"),
            }
        })
        .collect()
}
