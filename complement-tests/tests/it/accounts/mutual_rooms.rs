//! The rooms that one shares with somebody.

use std::collections::BTreeSet;

use parley_conformance::{Client, TestOptions, on_each_engine, on_each_engine_with};
use serde_json::{Value, json};

const PATH: &str = "/_matrix/client/v1/mutual_rooms?user_id=";

async fn room(owner: &Client, members: &[&Client]) -> String {
    let body = json!({ "preset": "public_chat" });
    let room = owner.post("/_matrix/client/v3/createRoom", body).await.ok();
    let room = room["room_id"].as_str().unwrap().to_owned();
    for member in members {
        let path = format!("/_matrix/client/v3/rooms/{room}/join");
        member.post(&path, json!({})).await.ok();
    }
    room
}

fn names(answer: &Value) -> BTreeSet<String> {
    let rooms = answer["joined"].as_array().unwrap().iter();
    rooms
        .map(|room| room.as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn rooms_are_mutual_while_both_are_joined() {
    on_each_engine(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let (one, other) = (room(&alice, &[&bob]).await, room(&bob, &[&alice]).await);
        room(&alice, &[]).await;
        room(&bob, &[]).await;
        let answer = alice.get(&format!("{PATH}{}", bob.user_id)).await.ok();
        assert_eq!(answer["count"], 2);
        assert_eq!(names(&answer), BTreeSet::from([one.clone(), other]));
        assert!(answer["next_batch"].is_null());
        bob.post(&format!("/_matrix/client/v3/rooms/{one}/leave"), json!({}))
            .await
            .ok();
        let answer = alice.get(&format!("{PATH}{}", bob.user_id)).await.ok();
        assert_eq!(answer["count"], 1);
    })
    .await;
}

#[tokio::test]
async fn with_who_is_not_there_one_shares_nothing_and_with_oneself_one_asks_in_vain() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        room(&alice, &[]).await;
        let answer = alice.get(&format!("{PATH}@nobody:parley.test")).await.ok();
        assert_eq!(answer, json!({ "count": 0, "joined": [] }));
        for wrong in [
            format!("{PATH}{}", alice.user_id),
            format!("{PATH}nobody"),
            // With no localpart, and with one that no user ID may have any more.
            format!("{PATH}@:parley.test"),
            format!("{PATH}@b%C3%B6b:parley.test"),
            format!("{PATH}@b%00b:parley.test"),
            format!("{PATH}@bob:parley.test&from=nowhere"),
        ] {
            alice.get(&wrong).await.is_refused(400, "M_INVALID_PARAM");
        }
        let answer = alice.get("/_matrix/client/v1/mutual_rooms").await;
        assert_eq!(answer.status, 400);
        let stranger = alice.without_token();
        stranger
            .get(&format!("{PATH}@bob:parley.test"))
            .await
            .is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn many_rooms_come_in_batches() {
    on_each_engine_with(TestOptions::default, async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let mut rooms = BTreeSet::new();
        for _ in 0..203 {
            rooms.insert(room(&alice, &[&bob]).await);
        }
        let path = format!("{PATH}{}", bob.user_id);
        let first = alice.get(&path).await.ok();
        assert_eq!(
            (first["count"].clone(), names(&first).len()),
            (json!(203), 200)
        );
        let next = first["next_batch"].as_str().unwrap();
        let second = alice.get(&format!("{path}&from={next}")).await.ok();
        assert_eq!(
            (second["count"].clone(), names(&second).len()),
            (json!(203), 3)
        );
        assert!(second["next_batch"].is_null());
        let all: BTreeSet<_> = names(&first).union(&names(&second)).cloned().collect();
        assert_eq!(all, rooms);
    })
    .await;
}
