//! Tags of rooms.

use parley_conformance::{Client, on_each_engine};
use serde_json::json;

use super::{content, joined, nothing, own, sync, token};
use crate::rooms::{create, quoted};

fn path(client: &Client, room_id: &str, tag: &str) -> String {
    own(client, &format!("rooms/{}/tags{tag}", quoted(room_id)))
}

#[tokio::test]
async fn tags_are_put_on_and_taken_off_a_room() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let all = path(&alice, &room_id, "");
        assert_eq!(alice.get(&all).await.ok(), json!({ "tags": {} }));
        let since = token(&alice).await;
        let favourite = path(&alice, &room_id, "/m.favourite");
        let work = path(&alice, &room_id, "/u.work");
        alice
            .put(&favourite, json!({ "order": 0.5, "org.example": 1 }))
            .await
            .ok();
        alice.put(&work, json!({})).await.ok();
        let tags = json!({ "tags": {
            "m.favourite": { "order": 0.5, "org.example": 1 },
            "u.work": {},
        } });
        assert_eq!(alice.get(&all).await.ok(), tags);
        let changes = sync(&alice, Some(&since), "").await;
        let data = &joined(&changes, &room_id)["account_data"]["events"];
        assert_eq!(content(data, "m.tag"), Some(tags));
        alice.delete(&favourite, nothing()).await.ok();
        alice.delete(&favourite, nothing()).await.ok();
        assert_eq!(
            alice.get(&all).await.ok(),
            json!({ "tags": { "u.work": {} } })
        );
    })
    .await;
}

#[tokio::test]
async fn two_devices_may_tag_at_once() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let other = alice.log_in_again().await;
        let room_id = create(&alice, json!({})).await;
        for number in 0..10 {
            let one = path(&alice, &room_id, &format!("/u.a{number}"));
            let two = path(&alice, &room_id, &format!("/u.b{number}"));
            let (one, two) = tokio::join!(alice.put(&one, nothing()), other.put(&two, nothing()));
            one.ok();
            two.ok();
        }
        let tags = alice.get(&path(&alice, &room_id, "")).await.ok();
        assert_eq!(tags["tags"].as_object().unwrap().len(), 20);
    })
    .await;
}

#[tokio::test]
async fn a_tag_has_a_name_and_a_number_as_its_order() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({})).await;
        let long = path(&alice, &room_id, &format!("/{}", "t".repeat(256)));
        alice
            .put(&long, nothing())
            .await
            .is_refused(400, "M_INVALID_PARAM");
        let tag = path(&alice, &room_id, "/u.a");
        let answer = alice.put(&tag, json!({ "order": [] })).await;
        answer.is_refused(400, "M_BAD_JSON");
        bob.put(&tag, nothing())
            .await
            .is_refused(403, "M_FORBIDDEN");
        let others = path(&bob, &room_id, "/u.a");
        bob.put(&others, nothing())
            .await
            .is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn the_name_of_a_tag_has_at_most_255_bytes() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        // The bytes count, not the characters.
        for (name, fits) in [
            ("t".repeat(255), true),
            ("t".repeat(256), false),
            ("\u{e9}".repeat(127), true),
            ("\u{e9}".repeat(128), false),
        ] {
            let tag = path(&alice, &room_id, &format!("/{}", quoted(&name)));
            let answer = alice.put(&tag, nothing()).await;
            match fits {
                true => assert_eq!(answer.ok(), nothing()),
                false => answer.is_refused(400, "M_INVALID_PARAM"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn tags_are_for_rooms_that_one_knows_and_for_nobody_else() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({})).await;
        for client in [&bob, &alice] {
            let room_id = match client.user_id == alice.user_id {
                true => "!unknown:parley.test",
                false => &room_id,
            };
            let tag = path(client, room_id, "/u.a");
            client
                .put(&tag, nothing())
                .await
                .is_refused(403, "M_FORBIDDEN");
            let all = path(client, room_id, "");
            client.get(&all).await.is_refused(403, "M_FORBIDDEN");
        }
        let tag = path(&alice, &room_id, "/u.a");
        alice.put(&tag, nothing()).await.ok();
        bob.get(&path(&alice, &room_id, ""))
            .await
            .is_refused(403, "M_FORBIDDEN");
        bob.delete(&tag, nothing())
            .await
            .is_refused(403, "M_FORBIDDEN");
        for order in [json!("first"), json!(null), json!([])] {
            let answer = alice.put(&tag, json!({ "order": order })).await;
            answer.is_refused(400, "M_BAD_JSON");
        }
    })
    .await;
}
