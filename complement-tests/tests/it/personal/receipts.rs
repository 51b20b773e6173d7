//! Receipts and read markers.

use parley_conformance::{Answer, Client, on_each_engine};
use serde_json::{Value, json};

use super::{content, joined, nothing, own, room_of_two, sync, sync_until, token};
use crate::rooms::{create, quoted, room_path, say};

async fn receive(
    client: &Client,
    room_id: &str,
    kind: &str,
    event_id: &str,
    body: Value,
) -> Answer {
    let path = format!("receipt/{kind}/{}", quoted(event_id));
    client.post(&room_path(room_id, &path), body).await
}

/// The content of the `m.receipt` event of a room in a /sync.
fn receipts(answer: &Value, room_id: &str) -> Option<Value> {
    content(&joined(answer, room_id)["ephemeral"]["events"], "m.receipt")
}

fn of(answer: &Value, room_id: &str, event_id: &str, kind: &str, client: &Client) -> Option<Value> {
    let receipt = receipts(answer, room_id)?[event_id][kind][&client.user_id].clone();
    (!receipt.is_null()).then_some(receipt)
}

#[tokio::test]
async fn a_receipt_reaches_everyone_in_the_room_once() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let event = say(&alice, &room_id, "hello").await;
        let since = token(&alice).await;
        let waiting = sync_until(&alice, &since, |answer| {
            of(answer, &room_id, &event, "m.read", &bob)
        });
        let (found, put) = tokio::join!(
            waiting,
            receive(&bob, &room_id, "m.read", &event, nothing())
        );
        assert_eq!(put.ok(), json!({}));
        let (receipt, next) = found;
        assert!(receipt["ts"].is_u64());
        assert!(receipt.get("thread_id").is_none());
        let later = sync(&alice, Some(&next), "").await;
        assert_eq!(receipts(&later, &room_id), None);
        // The same token gives the same again; a first /sync has it, too.
        for answer in [
            sync(&alice, Some(&since), "").await,
            sync(&bob, None, "").await,
        ] {
            assert!(of(&answer, &room_id, &event, "m.read", &bob).is_some());
            let events = &joined(&answer, &room_id)["ephemeral"]["events"];
            assert!(!events.to_string().contains("room_id"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_newer_receipt_takes_the_place_and_an_older_one_does_not() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let first = say(&alice, &room_id, "1").await;
        let second = say(&alice, &room_id, "2").await;
        for event in [&first, &second, &first] {
            receive(&alice, &room_id, "m.read", event, nothing())
                .await
                .ok();
        }
        server.restart().await;
        let answer = sync(&alice, None, "").await;
        assert!(of(&answer, &room_id, &second, "m.read", &alice).is_some());
        assert!(of(&answer, &room_id, &first, "m.read", &alice).is_none());
    })
    .await;
}

#[tokio::test]
async fn nobody_learns_of_another_ones_private_receipt() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let event = say(&alice, &room_id, "hello").await;
        let (alice_since, bob_since) = (token(&alice).await, token(&bob).await);
        receive(&bob, &room_id, "m.read.private", &event, nothing())
            .await
            .ok();
        let answer = sync(&bob, Some(&bob_since), "").await;
        assert!(of(&answer, &room_id, &event, "m.read.private", &bob).is_some());
        for since in [Some(alice_since.as_str()), None] {
            let answer = sync(&alice, since, "").await;
            assert_eq!(receipts(&answer, &room_id), None);
        }
    })
    .await;
}

#[tokio::test]
async fn receipts_of_threads_stand_beside_each_other_and_one_without_goes_first() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let root = say(&alice, &room_id, "root").await;
        let event = related(&alice, &room_id, "m.thread", &root).await;
        let main = json!({ "thread_id": "main" });
        receive(&alice, &room_id, "m.read", &root, main).await.ok();
        receive(&alice, &room_id, "m.read", &event, nothing())
            .await
            .ok();
        let thread = json!({ "thread_id": root });
        receive(&alice, &room_id, "m.read", &event, thread)
            .await
            .ok();
        let answer = sync(&alice, None, "").await;
        let in_main = of(&answer, &room_id, &root, "m.read", &alice).unwrap();
        assert_eq!(in_main["thread_id"], "main");
        let unthreaded = of(&answer, &room_id, &event, "m.read", &alice).unwrap();
        assert!(unthreaded.get("thread_id").is_none());
    })
    .await;
}

#[tokio::test]
async fn read_markers_move_the_fully_read_marker_and_receipts() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let first = say(&alice, &room_id, "1").await;
        let second = say(&alice, &room_id, "2").await;
        let since = token(&alice).await;
        let markers = json!({ "m.fully_read": first, "m.read": second, "m.read.private": second });
        let path = room_path(&room_id, "read_markers");
        alice.post(&path, markers).await.ok();
        let answer = sync(&alice, Some(&since), "").await;
        let data = &joined(&answer, &room_id)["account_data"]["events"];
        assert_eq!(
            content(data, "m.fully_read"),
            Some(json!({ "event_id": first }))
        );
        for kind in ["m.read", "m.read.private"] {
            assert!(
                of(&answer, &room_id, &second, kind, &alice).is_some(),
                "{kind}"
            );
        }
        receive(&alice, &room_id, "m.fully_read", &second, nothing())
            .await
            .ok();
        let data = own(
            &alice,
            &format!("rooms/{}/account_data/m.fully_read", quoted(&room_id)),
        );
        assert_eq!(alice.get(&data).await.ok(), json!({ "event_id": second }));
    })
    .await;
}

/// Sends a message that relates to another; its id.
async fn related(client: &Client, room_id: &str, rel_type: &str, event_id: &str) -> String {
    let content = json!({
        "msgtype": "m.text",
        "body": rel_type,
        "m.relates_to": { "rel_type": rel_type, "event_id": event_id },
    });
    let path = room_path(room_id, &format!("send/m.room.message/{rel_type}"));
    crate::rooms::event_id(&client.put(&path, content).await.ok())
}

#[tokio::test]
async fn a_receipt_of_a_thread_is_for_an_event_of_it() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let root = say(&alice, &room_id, "root").await;
        let inside = related(&alice, &room_id, "m.thread", &root).await;
        let about_it = related(&alice, &room_id, "m.reference", &inside).await;
        let outside = say(&alice, &room_id, "outside").await;
        for (event_id, thread, fits) in [
            (&root, root.as_str(), true),
            (&inside, root.as_str(), true),
            (&about_it, root.as_str(), true),
            (&outside, root.as_str(), false),
            (&outside, "main", true),
            (&root, "main", true),
            (&inside, "main", false),
            (&about_it, "main", false),
        ] {
            let body = json!({ "thread_id": thread });
            let answer = receive(&alice, &room_id, "m.read", event_id, body).await;
            match fits {
                true => assert_eq!(answer.ok(), json!({})),
                false => answer.is_refused(400, "M_INVALID_PARAM"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_receipt_is_refused() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({})).await;
        let other_room = create(&alice, json!({})).await;
        let event = say(&alice, &room_id, "hello").await;
        let refused = async |client: &Client, kind: &str, event_id: &str, body: Value| {
            receive(client, &room_id, kind, event_id, body).await
        };
        let answer = refused(&bob, "m.read", &event, nothing()).await;
        answer.is_refused(403, "M_FORBIDDEN");
        let answer = refused(&alice, "m.seen", &event, nothing()).await;
        answer.is_refused(400, "M_INVALID_PARAM");
        let answer = refused(&alice, "m.read", "$unknown", nothing()).await;
        answer.is_refused(404, "M_NOT_FOUND");
        for thread in [json!(5), json!(null), json!(""), json!({})] {
            let thread = json!({ "thread_id": thread });
            let answer = refused(&alice, "m.read", &event, thread).await;
            answer.is_refused(400, "M_INVALID_PARAM");
        }
        let thread = json!({ "thread_id": "somewhere" });
        let answer = refused(&alice, "m.read", &event, thread).await;
        answer.is_refused(400, "M_INVALID_PARAM");
        let main = json!({ "thread_id": "main" });
        let answer = refused(&alice, "m.fully_read", &event, main).await;
        answer.is_refused(400, "M_INVALID_PARAM");
        let answer = receive(&alice, &other_room, "m.read", &event, nothing()).await;
        answer.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn a_read_marker_is_for_an_event_of_the_room_and_moves_nothing_else() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({})).await;
        let other_room = create(&alice, json!({})).await;
        let one = say(&alice, &room_id, "one").await;
        let two = say(&alice, &room_id, "two").await;
        let elsewhere = say(&alice, &other_room, "elsewhere").await;
        let markers = room_path(&room_id, "read_markers");
        let path = own(
            &alice,
            &format!("rooms/{}/account_data/m.fully_read", quoted(&room_id)),
        );
        alice
            .post(&markers, json!({ "m.fully_read": one }))
            .await
            .ok();
        for (key, value, status, code) in [
            ("m.fully_read", json!("$unknown"), 404, "M_NOT_FOUND"),
            ("m.fully_read", json!(elsewhere), 404, "M_NOT_FOUND"),
            ("m.fully_read", json!("no id"), 400, "M_BAD_JSON"),
            ("m.fully_read", json!(1), 400, "M_BAD_JSON"),
            ("m.read", json!("$unknown"), 404, "M_NOT_FOUND"),
            ("m.read.private", json!("$unknown"), 404, "M_NOT_FOUND"),
        ] {
            let answer = alice.post(&markers, json!({ key: value })).await;
            answer.is_refused(status, code);
            // Neither is the rest of such a request done.
            let both = json!({ "m.fully_read": two, "m.read": "$unknown" });
            alice
                .post(&markers, both)
                .await
                .is_refused(404, "M_NOT_FOUND");
            assert_eq!(alice.get(&path).await.ok()["event_id"], one);
        }
        alice.post(&markers, json!({})).await.ok();
        let answer = bob.post(&markers, json!({ "m.fully_read": one })).await;
        answer.is_refused(403, "M_FORBIDDEN");
        let answer = alice.put(&path, json!({ "event_id": two })).await;
        answer.is_refused(405, "M_BAD_JSON");
        // Back is a move like any other.
        alice
            .post(&markers, json!({ "m.fully_read": two }))
            .await
            .ok();
        alice
            .post(&markers, json!({ "m.fully_read": one }))
            .await
            .ok();
        assert_eq!(alice.get(&path).await.ok()["event_id"], one);
    })
    .await;
}

#[tokio::test]
async fn a_moved_marker_comes_by_sync() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let event = say(&alice, &room_id, "one").await;
        let since = token(&alice).await;
        let markers = room_path(&room_id, "read_markers");
        alice
            .post(&markers, json!({ "m.fully_read": event }))
            .await
            .ok();
        let answer = sync(&alice, Some(&since), "").await;
        let data = &joined(&answer, &room_id)["account_data"]["events"];
        assert_eq!(
            content(data, "m.fully_read"),
            Some(json!({ "event_id": event }))
        );
    })
    .await;
}

#[tokio::test]
async fn a_receipt_of_before_somebodys_first_sync_is_in_it() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let read = say(&alice, &room_id, "read").await;
        let answer = receive(&bob, &room_id, "m.read", &read, nothing()).await;
        answer.ok();
        for number in 0..30 {
            // The event goes out of the timeline that is told; what is said of it stays.
            say(&alice, &room_id, &number.to_string()).await;
        }
        for restarts in [false, true] {
            if restarts {
                server.restart().await;
            }
            let carol = server.register(&format!("carol-{restarts}")).await;
            crate::rooms::join(&carol, &room_id).await.ok();
            for reader in [&alice, &bob, &carol] {
                let first = sync(reader, None, "").await;
                assert!(
                    of(&first, &room_id, &read, "m.read", &bob).is_some(),
                    "{first}"
                );
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_relates_into_a_thread_over_three_steps_is_of_it() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let root = say(&alice, &room_id, "root").await;
        let mut last = related(&alice, &room_id, "m.thread", &root).await;
        for step in 1..=4 {
            let relation = json!({ "rel_type": "m.annotation", "event_id": last, "key": "+" });
            let content = json!({ "m.relates_to": relation });
            let answer = crate::rooms::send(&alice, &room_id, "m.reaction", content).await;
            last = crate::rooms::event_id(&answer.ok());
            let (inside, outside) = match step {
                1..=3 => (root.as_str(), "main"),
                // So far nobody follows.
                _ => ("main", root.as_str()),
            };
            let body = json!({ "thread_id": outside });
            let refused = receive(&alice, &room_id, "m.read", &last, body).await;
            refused.is_refused(400, "M_INVALID_PARAM");
            let body = json!({ "thread_id": inside });
            let read = receive(&alice, &room_id, "m.read", &last, body).await;
            assert_eq!(read.ok(), json!({}));
        }
    })
    .await;
}
