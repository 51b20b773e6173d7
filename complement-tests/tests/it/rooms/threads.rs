//! The threads of a room, and references.

use parley_conformance::{Answer, Client, on_each_engine};
use serde_json::{Value, json};

use super::{act_self, create_public, event_id, get_event, join, quoted, room_path, say};

async fn relate(
    client: &Client,
    room_id: &str,
    rel_type: &str,
    target: &str,
    text: &str,
) -> String {
    let relation = json!({ "rel_type": rel_type, "event_id": target });
    let content = json!({ "msgtype": "m.text", "body": text, "m.relates_to": relation });
    let path = room_path(room_id, &format!("send/m.room.message/{text}"));
    event_id(&client.put(&path, content).await.ok())
}

async fn threads(client: &Client, room_id: &str, query: &str) -> Answer {
    let room = quoted(room_id);
    client
        .get(&format!("/_matrix/client/v1/rooms/{room}/threads?{query}"))
        .await
}

/// The roots of a page, each with what was said last.
fn roots(page: &Value) -> Vec<(&str, &str)> {
    let latest = |root: &Value| {
        root["unsigned"]["m.relations"]["m.thread"]["latest_event"]["event_id"].clone()
    };
    let chunk = page["chunk"].as_array().unwrap();
    for root in chunk {
        assert!(latest(root).is_string(), "{root}");
    }
    chunk
        .iter()
        .map(|root| {
            let thread = &root["unsigned"]["m.relations"]["m.thread"];
            let latest = &thread["latest_event"]["event_id"];
            (root["event_id"].as_str().unwrap(), latest.as_str().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn threads_are_listed_by_what_was_said_last() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let one = say(&alice, &room_id, "one").await;
        let two = say(&bob, &room_id, "two").await;
        say(&alice, &room_id, "no thread").await;
        let one_1 = relate(&bob, &room_id, "m.thread", &one, "one-1").await;
        let two_1 = relate(&bob, &room_id, "m.thread", &two, "two-1").await;
        let page = threads(&alice, &room_id, "").await.ok();
        assert_eq!(roots(&page), [(&*two, &*two_1), (&*one, &*one_1)]);
        assert!(page.get("next_batch").is_none());
        let one_2 = relate(&alice, &room_id, "m.thread", &one, "one-2").await;
        let page = threads(&alice, &room_id, "").await.ok();
        assert_eq!(roots(&page), [(&*one, &*one_2), (&*two, &*two_1)]);
        let page = threads(&alice, &room_id, "include=participated").await.ok();
        assert_eq!(roots(&page), [(&*one, &*one_2)]);

        let page = threads(&bob, &room_id, "limit=1").await.ok();
        assert_eq!(roots(&page), [(&*one, &*one_2)]);
        let from = quoted(page["next_batch"].as_str().unwrap());
        let page = threads(&bob, &room_id, &format!("limit=1&from={from}"))
            .await
            .ok();
        assert_eq!(roots(&page), [(&*two, &*two_1)]);
        assert!(page.get("next_batch").is_none(), "{page}");
    })
    .await;
}

#[tokio::test]
async fn threads_are_told_to_who_may_see_them() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        threads(&bob, &room_id, "")
            .await
            .is_refused(403, "M_FORBIDDEN");
        join(&bob, &room_id).await.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        let root = say(&alice, &room_id, "root").await;
        relate(&alice, &room_id, "m.thread", &root, "answer").await;
        let page = threads(&bob, &room_id, "").await.ok();
        assert_eq!(page["chunk"], json!([]));
        for query in ["include=some", "from=nonsense", "limit=0"] {
            threads(&alice, &room_id, query)
                .await
                .is_refused(400, "M_INVALID_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn references_are_told_with_the_event_that_they_refer_to() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let target = say(&alice, &room_id, "target").await;
        let one = relate(&alice, &room_id, "m.reference", &target, "one").await;
        let two = relate(&alice, &room_id, "m.reference", &target, "two").await;
        let event = get_event(&alice, &room_id, &target).await.ok();
        let told = &event["unsigned"]["m.relations"]["m.reference"];
        assert_eq!(
            *told,
            json!({ "chunk": [{ "event_id": one }, { "event_id": two }] })
        );
    })
    .await;
}
