//! What is told of a room's timeline, and when.

use std::time::Duration;

use parley_conformance::on_each_engine;
use serde_json::json;
use tokio::time::Instant;

use super::{joined, sync};
use crate::rooms::{BASE, bodies, create_public, quoted, redact, room_path, say};

#[tokio::test]
async fn a_gap_is_told_and_filled_by_its_tokens() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let first = sync(&alice, None, json!({})).await;
        for number in 0..5 {
            say(&alice, &room_id, &format!("m{number}")).await;
        }
        let filter = json!({ "room": { "timeline": { "limit": 2 } } });
        let since = &first["next_batch"];
        let told = sync(&alice, Some(since), filter.clone()).await;
        let timeline = &joined(&told, &room_id)["timeline"];
        assert_eq!(timeline["limited"], true);
        assert_eq!(bodies(&timeline["events"]), ["m3", "m4"]);
        let from = timeline["prev_batch"].as_str().unwrap();
        let path = format!("messages?dir=b&from={from}&to={}", since.as_str().unwrap());
        let gap = alice.get(&room_path(&room_id, &path)).await.ok();
        assert_eq!(bodies(&gap["chunk"]), ["m2", "m1", "m0"]);
        // Nothing is missing where as much is told as there is.
        let filter = json!({ "room": { "timeline": { "limit": 5 } } });
        let told = sync(&alice, Some(since), filter).await;
        assert_eq!(joined(&told, &room_id)["timeline"]["limited"], false);
    })
    .await;
}

#[tokio::test]
async fn a_request_is_answered_at_once_when_there_is_news_or_no_time() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let long = Duration::from_secs(5);
        let begun = Instant::now();
        let first = alice.get(&format!("{BASE}/sync?timeout=30000")).await.ok();
        assert!(begun.elapsed() < long, "a first answer waits for nothing");
        let since = first["next_batch"].as_str().unwrap().to_owned();
        let path = format!("{BASE}/sync?since={since}");
        let none = alice.get(&path).await.ok();
        assert!(none.get("rooms").is_none(), "{none}");
        let none = alice.get(&format!("{path}&timeout=100")).await.ok();
        assert!(none.get("rooms").is_none(), "{none}");
        let wait = format!("{path}&timeout=30000");
        let (told, _) = tokio::join!(alice.get(&wait), say(&alice, &room_id, "news"));
        let told = told.ok();
        assert_eq!(
            bodies(&joined(&told, &room_id)["timeline"]["events"]),
            ["news"]
        );
        alice.get(&format!("{path}&timeout=30000")).await.ok();
        // All the state is news, too.
        let since = told["next_batch"].as_str().unwrap();
        let path = format!("{BASE}/sync?since={since}&timeout=30000&full_state=true");
        let whole = alice.get(&path).await.ok();
        assert!(!joined(&whole, &room_id)["state"].is_null(), "{whole}");
        assert!(begun.elapsed() < long, "nothing waited for its time to end");
    })
    .await;
}

#[tokio::test]
async fn the_same_token_gives_the_same_news() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let first = sync(&alice, None, json!({})).await;
        say(&alice, &room_id, "one").await;
        let two = say(&alice, &room_id, "two").await;
        let mut seen = Vec::new();
        for _ in 0..3 {
            let told = sync(&alice, Some(&first["next_batch"]), json!({})).await;
            let events = &joined(&told, &room_id)["timeline"]["events"];
            seen.push(bodies(events).join(" "));
            server.restart().await;
        }
        assert_eq!(seen, ["one two"; 3]);
        redact(&alice, &room_id, &two).await.ok();
        let told = sync(&alice, Some(&first["next_batch"]), json!({})).await;
        let events = joined(&told, &room_id)["timeline"]["events"].clone();
        assert_eq!(bodies(&events), ["one"]);
        let redaction = events.as_array().unwrap().last().unwrap();
        assert_eq!(redaction["redacts"], two);
    })
    .await;
}

#[tokio::test]
async fn a_timeline_of_nothing_tells_of_news_all_the_same() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let filter = json!({ "room": { "timeline": { "limit": 0 } } });
        let first = sync(&alice, None, filter.clone()).await;
        let timeline = &joined(&first, &room_id)["timeline"];
        assert_eq!(timeline["events"], json!([]));
        say(&alice, &room_id, "news").await;
        let told = sync(&alice, Some(&first["next_batch"]), filter).await;
        let timeline = &joined(&told, &room_id)["timeline"];
        assert_eq!(timeline["events"], json!([]));
        assert_eq!(timeline["limited"], true, "{told}");
    })
    .await;
}

#[tokio::test]
async fn a_restart_is_no_news() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        create_public(&alice).await;
        let mut since = sync(&alice, None, json!({})).await["next_batch"].clone();
        server.restart().await;
        // Whatever the start itself brings, such as presence, comes once.
        for _ in 0..3 {
            since = sync(&alice, Some(&since), json!({})).await["next_batch"].clone();
        }
        let begun = Instant::now();
        let wait = Duration::from_millis(400);
        let path = format!("{BASE}/sync?timeout=400&since={}", since.as_str().unwrap());
        let told = alice.get(&path).await.ok();
        assert!(begun.elapsed() >= wait, "it was answered at once: {told}");
        assert!(told.get("rooms").is_none(), "{told}");
    })
    .await;
}

#[tokio::test]
async fn what_a_filter_hides_ends_no_wait() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let filter = json!({
            "presence": { "types": [] },
            "room": { "timeline": { "types": ["com.example"] }, "state": { "types": [] } },
        });
        let since = sync(&alice, None, filter.clone()).await["next_batch"].clone();
        let filter = quoted(&filter.to_string());
        let since = since.as_str().unwrap();
        let path = format!("{BASE}/sync?timeout=700&since={since}&filter={filter}");
        let begun = Instant::now();
        let (told, _) = tokio::join!(alice.get(&path), say(&alice, &room_id, "hidden"));
        let told = told.ok();
        assert!(told.get("rooms").is_none(), "{told}");
        assert!(begun.elapsed() >= Duration::from_millis(700));
    })
    .await;
}
