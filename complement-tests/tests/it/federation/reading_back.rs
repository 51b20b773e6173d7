//! The past of a room, as other servers tell it when somebody reads back.

use std::time::Duration;

use parley_conformance::{Client, Resident, federated};
use serde_json::{Value, json};

use super::{
    giver::giver,
    rooms::{hear, read},
};
use crate::rooms::{create, get_state, quoted, room_path};

async fn content_of(client: &Client, room_id: &str, event_id: &str) -> Value {
    let path = format!("event/{}", quoted(event_id));
    client.get(&room_path(room_id, &path)).await.ok()["content"].take()
}

#[tokio::test]
async fn what_the_past_redacts_is_forgotten_by_all_nodes() {
    federated(1, async |servers| {
        let Some(second) = servers[0].second_node().await else {
            return;
        };
        let alice = servers[0].register("alice").await;
        let there = alice.at(&second);
        let levels = json!({ "state_default": 0 });
        let plan = json!({
            "preset": "public_chat", "room_version": "11", "power_level_content_override": levels,
        });
        let room_id = create(&alice, plan).await;
        let (peer, gives) = giver().await;
        let mut resident = Resident::join(&peer, &servers[0], &room_id).await;
        let said = resident.say("secret").await;
        let (topic, event) = resident.message("", |event| {
            event["type"] = json!("m.room.topic");
            event["state_key"] = json!("");
            event["content"] = json!({ "topic": "secret" });
        });
        resident.send(vec![event.clone()]).await.ok();
        resident.last.clone_from(&topic);
        // What is read of both is kept in memory.
        hear(&there, &room_id, &topic).await;
        assert_eq!(content_of(&there, &room_id, &said).await["body"], "secret");
        let shown = get_state(&there, &room_id, "m.room.topic", "").await;
        assert_eq!(shown.ok()["topic"], "secret");
        let redaction = |target: &str, on: &str, depth: u64| {
            resident.message("", |event| {
                event["type"] = json!("m.room.redaction");
                event["content"] = json!({ "redacts": target });
                event["prev_events"] = json!([on]);
                event["depth"] = json!(depth);
            })
        };
        let of_topic = redaction(&topic, &topic, 100);
        let of_said = redaction(&said, &of_topic.0, 101);
        let (last, behind_gap) = resident.message("after the gap", |event| {
            event["prev_events"] = json!([of_said.0]);
            event["depth"] = json!(102);
        });
        {
            let mut gives = gives.lock().unwrap();
            gives.state.clone_from(&resident.state);
            gives.state.push((topic.clone(), event));
            let joined = resident.auth_events.last().cloned().unwrap();
            gives.state.push((joined, Value::Null));
            gives.others.extend([of_topic, of_said]);
        }
        resident.send(vec![behind_gap]).await.ok();
        hear(&alice, &room_id, &last).await;
        assert_eq!(content_of(&there, &room_id, &said).await["body"], "secret");
        read(&alice, &room_id).await;
        assert_eq!(content_of(&alice, &room_id, &said).await, json!({}));
        let is_forgotten = async {
            while content_of(&there, &room_id, &said).await != json!({}) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let is_forgotten = tokio::time::timeout(Duration::from_secs(20), is_forgotten).await;
        is_forgotten.expect("the other node hears of it in time");
        for client in [&alice, &there] {
            let shown = get_state(client, &room_id, "m.room.topic", "").await;
            assert_eq!(shown.ok(), json!({}));
        }
    })
    .await;
}
