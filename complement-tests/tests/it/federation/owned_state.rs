//! State that belongs to somebody (MSC3757), between servers.

use axum::Router;
use parley_conformance::{Client, Peer, Resident, federated};
use serde_json::{Value, json};

use super::rooms::{hear, join_by};
use crate::rooms::{create, event_id, get_state, set_state};

const KIND: &str = "com.example.device";

const VERSIONS: [&str; 2] = ["org.matrix.msc3757.10", "org.matrix.msc3757.11"];

/// A room in which anyone may set the state of these tests.
async fn owned_room(client: &Client, version: &str) -> String {
    let plan = json!({
        "preset": "public_chat",
        "room_version": version,
        "power_level_content_override": { "events": { KIND: 0 } },
    });
    create(client, plan).await
}

async fn stands(client: &Client, room_id: &str, state_key: &str) -> Value {
    get_state(client, room_id, KIND, state_key).await.body["by"].clone()
}

#[tokio::test]
async fn what_belongs_to_somebody_is_written_by_them_and_those_above_them_from_any_server() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        for version in VERSIONS {
            let room_id = owned_room(&alice, version).await;
            join_by(&bob, &room_id, &servers[0]).await;
            let phone = format!("{}_phone", bob.user_id);
            for (writer, reader) in [(&bob, &alice), (&alice, &bob), (&bob, &alice)] {
                let content = json!({ "by": writer.user_id });
                let answer = set_state(writer, &room_id, KIND, &phone, content).await;
                hear(reader, &room_id, &event_id(&answer.ok())).await;
                assert_eq!(stands(reader, &room_id, &phone).await, writer.user_id);
            }
            let of_alice = format!("{}_phone", alice.user_id);
            let answer = set_state(&bob, &room_id, KIND, &of_alice, json!({})).await;
            answer.is_refused(403, "M_FORBIDDEN");
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_writes_to_what_belongs_to_others_is_not_believed() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let peer = Peer::start(Router::new()).await;
        for version in VERSIONS {
            let room_id = owned_room(&alice, version).await;
            let mut mallory = Resident::join(&peer, &servers[0], &room_id).await;
            let of_alice = format!("{}_phone", alice.user_id);
            let content = json!({ "by": alice.user_id });
            set_state(&alice, &room_id, KIND, &of_alice, content)
                .await
                .ok();
            let written = |state_key: &str| {
                mallory.message("", |event| {
                    event["type"] = json!(KIND);
                    event["state_key"] = json!(state_key);
                    event["content"] = json!({ "by": event["sender"] });
                })
            };
            let wrong = [of_alice.as_str(), &alice.user_id, "@other:a_phone", "@oops"];
            let mut events: Vec<Value> = wrong.iter().map(|key| written(key).1).collect();
            let own = format!("{}_phone", mallory.user_id);
            let right = written(&own);
            events.push(right.1);
            mallory.send(events).await.ok();
            hear(&alice, &room_id, &right.0).await;
            assert_eq!(stands(&alice, &room_id, &own).await, mallory.user_id);
            assert_eq!(stands(&alice, &room_id, &of_alice).await, alice.user_id);
            for key in &wrong[1..] {
                assert_eq!(stands(&alice, &room_id, key).await, Value::Null, "{key}");
            }
        }
    })
    .await;
}
