//! How much is unread.

use parley_conformance::{Client, on_each_engine};
use serde_json::{Value, json};

use super::{joined, nothing, room_of_two, sync, token};
use crate::rooms::{BASE, create_public, join, quoted, room_path, say, say_related};

/// What a first /sync says is unread: notifications and highlights.
async fn unread(client: &Client, room_id: &str) -> (u64, u64) {
    of(&sync(client, None, "").await, room_id)
}

fn of(answer: &Value, room_id: &str) -> (u64, u64) {
    let counts = &joined(answer, room_id)["unread_notifications"];
    let number = |name: &str| counts[name].as_u64().unwrap();
    (number("notification_count"), number("highlight_count"))
}

async fn send(client: &Client, room_id: &str, transaction: &str, content: Value) -> String {
    let path = room_path(room_id, &format!("send/m.room.message/{transaction}"));
    let answer = client.put(&path, content).await.ok();
    answer["event_id"].as_str().unwrap().to_owned()
}

/// A message that mentions somebody.
fn mention(client: &Client, body: &str) -> Value {
    json!({ "msgtype": "m.text", "body": body, "m.mentions": { "user_ids": [client.user_id] } })
}

async fn read(client: &Client, room_id: &str, kind: &str, event_id: &str, body: Value) {
    let path = format!("receipt/{kind}/{}", quoted(event_id));
    client.post(&room_path(room_id, &path), body).await.ok();
}

#[tokio::test]
async fn messages_are_counted_until_they_are_read() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let since = token(&bob).await;
        assert_eq!(unread(&bob, &room_id).await, (0, 0));
        let first = say(&alice, &room_id, "one").await;
        say(&alice, &room_id, "two").await;
        let last = send(&alice, &room_id, "three", mention(&bob, "hello")).await;
        assert_eq!(of(&sync(&bob, Some(&since), "").await, &room_id), (3, 1));
        assert_eq!(unread(&alice, &room_id).await, (0, 0));
        read(&bob, &room_id, "m.read", &first, nothing()).await;
        assert_eq!(unread(&bob, &room_id).await, (2, 1));
        read(&bob, &room_id, "m.read.private", &last, nothing()).await;
        assert_eq!(unread(&bob, &room_id).await, (0, 0));
        // The newer of both counts.
        read(&bob, &room_id, "m.read", &first, nothing()).await;
        assert_eq!(unread(&bob, &room_id).await, (0, 0));
    })
    .await;
}

#[tokio::test]
async fn counts_are_the_same_after_a_restart() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let first = say(&alice, &room_id, "first").await;
        read(&bob, &room_id, "m.read", &first, nothing()).await;
        for number in 0..250 {
            say(&alice, &room_id, &format!("{number}")).await;
        }
        // So many are written down; what comes after isn't.
        assert_eq!(unread(&bob, &room_id).await, (250, 0));
        send(&alice, &room_id, "mention", mention(&bob, "hello")).await;
        assert_eq!(unread(&bob, &room_id).await, (251, 1));
        server.restart().await;
        let last = say(&alice, &room_id, "more").await;
        assert_eq!(unread(&bob, &room_id).await, (252, 1));
        read(&bob, &room_id, "m.read", &last, nothing()).await;
        assert_eq!(unread(&bob, &room_id).await, (0, 0));
    })
    .await;
}

#[tokio::test]
async fn who_writes_has_read() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        say(&alice, &room_id, "one").await;
        assert_eq!(unread(&bob, &room_id).await, (1, 0));
        say(&bob, &room_id, "I saw it").await;
        assert_eq!(unread(&bob, &room_id).await, (0, 0));
        say(&alice, &room_id, "two").await;
        assert_eq!(unread(&bob, &room_id).await, (1, 0));
    })
    .await;
}

#[tokio::test]
async fn nothing_from_before_a_join_is_unread() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        say(&alice, &room_id, "before").await;
        join(&bob, &room_id).await.ok();
        assert_eq!(unread(&bob, &room_id).await, (0, 0));
        say(&alice, &room_id, "after").await;
        let name = format!("{BASE}/profile/{}/displayname", bob.user_id);
        bob.put(&name, json!({ "displayname": "Robert" }))
            .await
            .ok();
        assert_eq!(unread(&bob, &room_id).await, (1, 0));
        say(&alice, &room_id, "robert?").await;
        assert_eq!(unread(&bob, &room_id).await, (2, 1));
    })
    .await;
}

#[tokio::test]
async fn what_is_redacted_is_not_unread() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let room_id = room_of_two(&alice, &bob).await;
        say(&alice, &room_id, "one").await;
        let wrong = send(&alice, &room_id, "two", mention(&bob, "wrong")).await;
        join(&carol, &room_id).await.ok();
        assert_eq!(unread(&bob, &room_id).await, (2, 1));
        let members = sync(&alice, None, "").await;
        let events = joined(&members, &room_id)["timeline"]["events"].as_array();
        let joins = events.unwrap().iter().rev();
        let mut joins = joins.filter(|event| event["state_key"] == carol.user_id.as_str());
        let join = joins.next().unwrap()["event_id"].as_str().unwrap();
        for (number, event_id) in [join, &wrong].into_iter().enumerate() {
            let path = format!("redact/{}/r{number}", quoted(event_id));
            alice.put(&room_path(&room_id, &path), nothing()).await.ok();
        }
        assert_eq!(unread(&bob, &room_id).await, (1, 0));
    })
    .await;
}

#[tokio::test]
async fn rules_of_ones_own_decide() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let room_id = room_of_two(&alice, &bob).await;
        join(&carol, &room_id).await.ok();
        let rule = format!("{BASE}/pushrules/global/content/cake");
        let loud =
            json!({ "pattern": "cake", "actions": ["notify", { "set_tweak": "highlight" }] });
        bob.put(&rule, loud).await.ok();
        let mute = format!("{BASE}/pushrules/global/room/{}", quoted(&room_id));
        carol.put(&mute, json!({ "actions": [] })).await.ok();
        say(&alice, &room_id, "there is cake").await;
        send(&alice, &room_id, "come", mention(&carol, "come")).await;
        assert_eq!(unread(&bob, &room_id).await, (2, 1));
        assert_eq!(unread(&carol, &room_id).await, (1, 1));
        let notice = json!({ "msgtype": "m.notice", "body": "cake is over, bob" });
        send(&alice, &room_id, "n1", notice).await;
        assert_eq!(unread(&bob, &room_id).await, (2, 1));
    })
    .await;
}

/// A message of a thread, or with another relation.
fn related(rel_type: &str, event_id: &str, body: &str) -> Value {
    json!({
        "msgtype": "m.text",
        "body": body,
        "m.relates_to": { "rel_type": rel_type, "event_id": event_id },
    })
}

#[tokio::test]
async fn receipts_of_threads_read_their_thread() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let a = say(&alice, &room_id, "root").await;
        let b = send(&alice, &room_id, "b", related("m.thread", &a, "begin")).await;
        let mut mentioned = related("m.thread", &a, "for you");
        mentioned["m.mentions"] = json!({ "user_ids": [bob.user_id] });
        send(&alice, &room_id, "c", mentioned).await;
        let d = send(&alice, &room_id, "d", mention(&bob, "hello")).await;
        send(&alice, &room_id, "e", related("m.thread", &a, "end")).await;
        let f = send(
            &alice,
            &room_id,
            "f",
            related("m.reference", &a, "reference"),
        )
        .await;
        assert_eq!(unread(&bob, &room_id).await, (6, 2));
        read(&bob, &room_id, "m.read", &a, json!({ "thread_id": "main" })).await;
        assert_eq!(unread(&bob, &room_id).await, (5, 2));
        read(&bob, &room_id, "m.read", &b, json!({ "thread_id": a })).await;
        assert_eq!(unread(&bob, &room_id).await, (4, 2));
        read(&bob, &room_id, "m.read", &d, nothing()).await;
        assert_eq!(unread(&bob, &room_id).await, (2, 0));
        read(&bob, &room_id, "m.read", &f, json!({ "thread_id": a })).await;
        assert_eq!(unread(&bob, &room_id).await, (1, 0));
    })
    .await;
}

#[tokio::test]
async fn the_events_of_ignored_users_are_not_counted() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let path = format!(
            "{BASE}/user/{}/account_data/m.ignored_user_list",
            bob.user_id
        );
        let ignored = json!({ "ignored_users": { &alice.user_id: {} } });
        bob.put(&path, ignored).await.ok();
        send(&alice, &room_id, "a", mention(&bob, "hello")).await;
        assert_eq!(unread(&bob, &room_id).await, (0, 0));
        bob.put(&path, json!({ "ignored_users": {} })).await.ok();
        send(&alice, &room_id, "b", mention(&bob, "hello")).await;
        assert_eq!(unread(&bob, &room_id).await, (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_count_is_told_when_a_receipt_changes_it_even_if_receipts_are_not_wanted() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let last = say(&alice, &room_id, "one").await;
        let filter =
            json!({ "room": { "ephemeral": { "types": [] }, "timeline": { "types": [] } } });
        let filter = format!("&filter={}", quoted(&filter.to_string()));
        let since = sync(&bob, None, &filter).await["next_batch"].clone();
        read(&bob, &room_id, "m.read", &last, nothing()).await;
        let told = sync(&bob, since.as_str(), &filter).await;
        assert_eq!(of(&told, &room_id), (0, 0));
        assert_eq!(joined(&told, &room_id)["ephemeral"]["events"], json!([]));
        say(&alice, &room_id, "two").await;
        let told = sync(&bob, told["next_batch"].as_str(), &filter).await;
        assert_eq!(of(&told, &room_id), (1, 0));
        assert_eq!(joined(&told, &room_id)["timeline"]["events"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn receipts_of_the_main_timeline_of_a_thread_and_of_all_read_what_is_theirs() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let root = say(&alice, &room_id, "root").await;
        let mut inside = Vec::new();
        for number in 0..3 {
            let text = format!("inside {number}");
            inside.push(say_related(&alice, &room_id, &text, "m.thread", &root).await);
        }
        let last = say(&alice, &room_id, "last").await;
        let filter = json!({ "room": { "timeline": { "unread_thread_notifications": true } } });
        let filter = format!("&filter={}", quoted(&filter.to_string()));
        let counts = async || {
            let told = sync(&bob, None, &filter).await;
            let room = joined(&told, &room_id);
            let main = room["unread_notifications"]["notification_count"].clone();
            let thread = &room["unread_thread_notifications"][&root]["notification_count"];
            (main.as_u64().unwrap(), thread.as_u64().unwrap_or(0))
        };
        assert_eq!(counts().await, (2, 3));
        for (event, thread, expected) in [
            (&last, json!({ "thread_id": "main" }), (0, 3)),
            (&inside[1], json!({ "thread_id": root }), (0, 1)),
            (&last, json!({}), (0, 0)),
        ] {
            let path = format!("receipt/m.read/{}", quoted(event));
            bob.post(&room_path(&room_id, &path), thread).await.ok();
            assert_eq!(counts().await, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn of_a_private_and_a_public_receipt_the_farther_counts() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        for (near, far) in [("m.read", "m.read.private"), ("m.read.private", "m.read")] {
            for first in [near, far] {
                let room_id = room_of_two(&alice, &bob).await;
                let one = say(&alice, &room_id, "one").await;
                let two = say(&alice, &room_id, "two").await;
                say(&alice, &room_id, "three").await;
                let place = |kind: &str| if kind == near { &one } else { &two };
                let second = if first == near { far } else { near };
                for kind in [first, second] {
                    read(&bob, &room_id, kind, place(kind), nothing()).await;
                }
                assert_eq!(unread(&bob, &room_id).await, (1, 0), "{first} {far}");
            }
        }
    })
    .await;
}
