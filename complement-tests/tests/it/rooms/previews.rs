//! Looking into rooms without being in them.

use parley_conformance::{Client, on_each_engine};
use serde_json::{Value, json};

use super::{BASE, bodies, create, join, quoted, room_path, say, set_state};

/// A room with that history visibility.
async fn room(alice: &Client, visibility: &str) -> String {
    let room_id = create(alice, json!({ "preset": "public_chat", "name": "square" })).await;
    let content = json!({ "history_visibility": visibility });
    set_state(alice, &room_id, "m.room.history_visibility", "", content)
        .await
        .ok();
    room_id
}

fn events_path(room_id: &str, from: &Value, timeout: u32) -> String {
    let from = from.as_str().unwrap();
    format!(
        "{BASE}/events?room_id={}&from={from}&timeout={timeout}",
        quoted(room_id)
    )
}

#[tokio::test]
async fn who_is_not_in_a_room_that_anyone_may_read_sees_what_is_there_and_what_comes() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room(&alice, "world_readable").await;
        for count in 0..25 {
            say(&alice, &room_id, &format!("{count}")).await;
        }
        let seen = bob.get(&room_path(&room_id, "initialSync")).await.ok();
        assert_eq!(
            (&seen["room_id"], &seen["visibility"]),
            (&json!(room_id), &json!("private"))
        );
        assert!(seen.get("membership").is_none(), "{seen}");
        let messages = &seen["messages"];
        let expected: Vec<String> = (5..25).map(|count| count.to_string()).collect();
        assert_eq!(bodies(&messages["chunk"]), expected);
        let start = messages["start"].as_str().unwrap();
        let path = room_path(&room_id, &format!("messages?dir=b&from={start}"));
        let before = bob.get(&path).await.ok();
        assert_eq!(bodies(&before["chunk"]), ["4", "3", "2", "1", "0"]);
        let state = seen["state"].as_array().unwrap();
        assert!(
            state.iter().any(|event| event["type"] == "m.room.name"),
            "{seen}"
        );
        // Nothing has come yet; then something does while it's waited for.
        let nothing = bob
            .get(&events_path(&room_id, &messages["end"], 0))
            .await
            .ok();
        assert_eq!(nothing["chunk"], json!([]));
        let path = events_path(&room_id, &nothing["end"], 10_000);
        let (told, _) = tokio::join!(bob.get(&path), say(&alice, &room_id, "new"));
        let told = told.ok();
        assert_eq!(bodies(&told["chunk"]), ["new"]);
        assert_eq!(told["chunk"][0]["room_id"], json!(room_id));
        let again = bob.get(&events_path(&room_id, &told["end"], 0)).await.ok();
        assert_eq!(again["chunk"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn what_comes_is_shown_only_while_anyone_may_read_the_room() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room(&alice, "world_readable").await;
        let seen = bob.get(&room_path(&room_id, "initialSync")).await.ok();
        let closed = json!({ "history_visibility": "shared" });
        set_state(&alice, &room_id, "m.room.history_visibility", "", closed)
            .await
            .ok();
        say(&alice, &room_id, "among us").await;
        for path in [
            events_path(&room_id, &seen["messages"]["end"], 0),
            room_path(&room_id, "initialSync"),
        ] {
            bob.get(&path).await.is_refused(403, "M_FORBIDDEN");
        }
    })
    .await;
}

#[tokio::test]
async fn members_see_the_room_with_what_is_theirs() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room(&alice, "joined").await;
        say(&alice, &room_id, "before").await;
        join(&bob, &room_id).await.ok();
        say(&alice, &room_id, "after").await;
        let path = format!(
            "{BASE}/user/{}/rooms/{}/account_data/com.example.note",
            quoted(&bob.user_id),
            quoted(&room_id)
        );
        bob.put(&path, json!({ "text": "nice" })).await.ok();
        let seen = bob.get(&room_path(&room_id, "initialSync")).await.ok();
        assert_eq!(seen["membership"], "join");
        assert_eq!(bodies(&seen["messages"]["chunk"]), ["after"]);
        let data = json!([{ "type": "com.example.note", "content": { "text": "nice" } }]);
        assert_eq!(seen["account_data"], data);
    })
    .await;
}

#[tokio::test]
async fn nobody_looks_into_a_room_of_others() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room(&alice, "shared").await;
        for path in [
            room_path(&room_id, "initialSync"),
            format!("{BASE}/events?room_id={}&timeout=0", quoted(&room_id)),
        ] {
            bob.get(&path).await.is_refused(403, "M_FORBIDDEN");
        }
    })
    .await;
}
