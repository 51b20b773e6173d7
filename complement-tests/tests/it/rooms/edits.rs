//! Which edits hold.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#validity-of-replacement-events>

use parley_conformance::{Client, on_each_engine};
use serde_json::{Value, json};

use super::{
    BASE, bodies, create_public, event_id, get_event, join, quoted, redact, room_path,
    room_path_v1, say, say_related, send, set_state,
};

/// The edit that is told with an event.
async fn edit_of(client: &Client, room_id: &str, target: &str) -> Value {
    let event = get_event(client, room_id, target).await.ok();
    event["unsigned"]["m.relations"]["m.replace"].clone()
}

fn replacing(target: &str, rest: Value) -> Value {
    let mut content = rest;
    content["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": target });
    content
}

#[tokio::test]
async fn an_edit_is_by_the_same_sender_of_the_same_type_in_the_same_room_and_says_something() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        let elsewhere = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let said = say(&alice, &room_id, "said").await;
        say_related(&bob, &room_id, "by another", "m.replace", &said).await;
        say_related(&alice, &elsewhere, "elsewhere", "m.replace", &said).await;
        let new = json!({ "m.new_content": { "msgtype": "m.text", "body": "other type" } });
        send(&alice, &room_id, "com.example", replacing(&said, new))
            .await
            .ok();
        let nothing_new = json!({ "msgtype": "m.text", "body": "nothing new" });
        send(
            &alice,
            &room_id,
            "m.room.message",
            replacing(&said, nothing_new),
        )
        .await
        .ok();
        assert_eq!(edit_of(&bob, &room_id, &said).await, Value::Null);
        let edit = say_related(&alice, &room_id, "better", "m.replace", &said).await;
        let told = edit_of(&bob, &room_id, &said).await;
        assert_eq!(told["event_id"], edit);
        // It is told as events are, and doesn't change the event itself.
        assert_eq!(told["sender"], alice.user_id);
        assert_eq!(told["type"], "m.room.message");
        assert!(told["origin_server_ts"].is_u64());
        let event = get_event(&bob, &room_id, &said).await.ok();
        assert_eq!(event["content"]["body"], "said");
    })
    .await;
}

#[tokio::test]
async fn neither_edits_nor_state_are_edited() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let said = say(&alice, &room_id, "said").await;
        let edit = say_related(&alice, &room_id, "edit", "m.replace", &said).await;
        say_related(&alice, &room_id, "edit of an edit", "m.replace", &edit).await;
        assert_eq!(edit_of(&alice, &room_id, &edit).await, Value::Null);
        assert_eq!(edit_of(&alice, &room_id, &said).await["event_id"], edit);
        let state = json!({ "body": "state" });
        let state = set_state(&alice, &room_id, "com.example", "", state).await;
        let state = event_id(&state.ok());
        let new = json!({ "m.new_content": { "body": "other" } });
        send(&alice, &room_id, "com.example", replacing(&state, new))
            .await
            .ok();
        assert_eq!(edit_of(&alice, &room_id, &state).await, Value::Null);
    })
    .await;
}

#[tokio::test]
async fn a_redacted_event_is_told_without_its_edits_which_stay() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let said = say(&alice, &room_id, "said").await;
        say_related(&alice, &room_id, "first", "m.replace", &said).await;
        let second = say_related(&alice, &room_id, "second", "m.replace", &said).await;
        redact(&alice, &room_id, &second).await.ok();
        let told = edit_of(&alice, &room_id, &said).await;
        assert_eq!(told["content"]["body"], "first");
        redact(&alice, &room_id, &said).await.ok();
        assert_eq!(edit_of(&alice, &room_id, &said).await, Value::Null);
        let path = room_path_v1(&room_id, &format!("relations/{}/m.replace", quoted(&said)));
        let edits = alice.get(&path).await.ok();
        assert_eq!(bodies(&edits["chunk"]), ["first"]);
    })
    .await;
}

#[tokio::test]
async fn an_edit_is_told_wherever_events_are() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let said = say(&alice, &room_id, "said pear").await;
        let edit = say_related(&alice, &room_id, "better", "m.replace", &said).await;
        say_related(&alice, &room_id, "in a thread", "m.thread", &said).await;
        let context = room_path(&room_id, &format!("context/{}", quoted(&said)));
        let search = json!({ "search_categories": { "room_events": { "search_term": "said" } } });
        let answers = [
            alice.get(&format!("{BASE}/sync")).await.ok()["rooms"]["join"][&room_id]["timeline"]
                ["events"]
                .clone(),
            alice.get(&room_path(&room_id, "messages?dir=b")).await.ok()["chunk"].clone(),
            json!([alice.get(&context).await.ok()["event"]]),
            alice.get(&room_path_v1(&room_id, "threads")).await.ok()["chunk"].clone(),
            json!([
                alice.post(&format!("{BASE}/search"), search).await.ok()["search_categories"]
                    ["room_events"]["results"][0]["result"]
            ]),
        ];
        for events in answers {
            let mut all = events.as_array().unwrap().iter();
            let event = all.find(|event| event["event_id"] == said).unwrap();
            let told = &event["unsigned"]["m.relations"];
            assert_eq!(told["m.replace"]["event_id"], edit, "{events}");
            assert_eq!(told["m.thread"]["count"], 1, "{events}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_edit_of_any_type_is_told_with_the_event() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let content = json!({ "question": "tea?" });
        let sent = send(&alice, &room_id, "com.example.poll", content).await;
        let target = event_id(&sent.ok());
        let new = json!({ "m.new_content": { "question": "coffee?" } });
        let new = replacing(&target, new);
        let sent = send(&alice, &room_id, "com.example.poll", new.clone()).await;
        let edit = event_id(&sent.ok());
        let told = edit_of(&alice, &room_id, &target).await;
        assert_eq!(told["event_id"], edit);
        assert_eq!(told["content"], new);
    })
    .await;
}
