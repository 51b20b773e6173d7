//! Gaps and states of which something can't be checked yet: it is asked for again, and not for ever.

use std::{sync::Arc, time::Duration};

use axum::Router;
use parley_conformance::{Client, Peer, Resident, TestOptions, TestServer, federated_with};
use parley_engine::clock::ManualClock;
use ruma::MilliSecondsSinceUnixEpoch;
use serde_json::{Value, json};

use super::{giver::giver, rooms::hear};
use crate::rooms::{create, get_state, quoted, room_path};

/// Longer than a server that gave no keys is left alone.
const UNTIL_KEYS: Duration = Duration::from_secs(61);
/// Longer than it is waited for what is lacking.
const PATIENCE: Duration = Duration::from_secs(11 * 60);

/// Servers whose clocks stand still.
fn options(_: usize) -> TestOptions {
    let now = MilliSecondsSinceUnixEpoch::now();
    TestOptions {
        clock: Some(Arc::new(ManualClock::new(now.get().into()))),
        ..TestOptions::default()
    }
}

async fn open_room(client: &Client) -> String {
    let plan = json!({ "preset": "public_chat", "room_version": "11" });
    create(client, plan).await
}

/// The join of a user of a server whose keys can't be had, after what a resident last saw.
fn join_of(guest: &Resident<'_>, resident: &Resident<'_>) -> (String, Value) {
    let kinds = ["m.room.create", "m.room.join_rules", "m.room.power_levels"];
    let allows = resident.state.iter().filter(|(_, event)| {
        let event_type = event["type"].as_str();
        event_type.is_some_and(|event_type| kinds.contains(&event_type))
    });
    let allows: Vec<&String> = allows.map(|(id, _)| id).collect();
    guest.signed(json!({
        "room_id": resident.room_id, "sender": guest.user_id, "state_key": guest.user_id,
        "type": "m.room.member", "content": { "membership": "join" }, "depth": 100,
        "origin_server_ts": 1_700_000_000_000_u64,
        "prev_events": [resident.last], "auth_events": allows,
    }))
}

async fn is_there(client: &Client, room_id: &str, event_id: &str) -> bool {
    let path = room_path(room_id, &format!("event/{}", quoted(event_id)));
    client.get(&path).await.status == 200
}

/// Waits until what waits in the inbox has been tried so often.
async fn is_tried(server: &TestServer, room_id: &str, attempts: i64) {
    let room_id = room_id.try_into().unwrap();
    let is_tried = async {
        loop {
            let rows = server.database().inbox(room_id, i64::MAX, 1).await.unwrap();
            if rows.first().is_some_and(|row| row.attempts >= attempts) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let is_tried = tokio::time::timeout(Duration::from_secs(20), is_tried).await;
    is_tried.expect("it is tried in time");
}

#[tokio::test]
async fn a_gap_of_which_something_cannot_be_checked_is_asked_for_again() {
    federated_with(1, options, async |servers| {
        let alice = servers[0].register("alice").await;
        let room_id = open_room(&alice).await;
        let (peer, gives) = giver().await;
        let absent = Peer::start(Router::new()).await;
        let keys = absent.publish(json!({}));
        let mut resident = Resident::join(&peer, &servers[0], &room_id).await;
        let guest = Resident::of_made_up(&absent, &servers[0], "11");
        let (join_id, join) = join_of(&guest, &resident);
        gives.lock().unwrap().gap = Some(vec![join]);
        let (said, event) = resident.message("after the gap", |event| {
            event["prev_events"] = json!([join_id]);
            event["depth"] = json!(101);
        });
        resident.send(vec![event]).await.ok();
        is_tried(&servers[0], &room_id, 1).await;
        assert!(!is_there(&alice, &room_id, &said).await);
        absent.publish(keys);
        servers[0].clock().advance(UNTIL_KEYS);
        // Whatever comes has the inbox looked at.
        resident.say("what was that?").await;
        hear(&alice, &room_id, &said).await;
        let joined = get_state(&alice, &room_id, "m.room.member", &guest.user_id).await;
        assert_eq!(joined.ok()["membership"], "join");
    })
    .await;
}

#[tokio::test]
async fn a_state_of_which_something_can_never_be_checked_is_taken_without_it_in_the_end() {
    federated_with(1, options, async |servers| {
        let alice = servers[0].register("alice").await;
        let room_id = open_room(&alice).await;
        let (peer, gives) = giver().await;
        let absent = Peer::start(Router::new()).await;
        absent.publish(json!({}));
        let mut resident = Resident::join(&peer, &servers[0], &room_id).await;
        let guest = Resident::of_made_up(&absent, &servers[0], "11");
        let join = join_of(&guest, &resident);
        let (unseen, event) = resident.message("unseen", |event| {
            event["prev_events"] = json!([join.0]);
            event["depth"] = json!(101);
        });
        {
            let mut gives = gives.lock().unwrap();
            gives.state.clone_from(&resident.state);
            // That the resident is here is known.
            gives.state.push((resident.last.clone(), Value::Null));
            gives.state.push(join);
            gives.others.push((unseen.clone(), event));
        }
        let (said, event) = resident.message("after the gap", |event| {
            event["prev_events"] = json!([unseen]);
            event["depth"] = json!(102);
        });
        resident.send(vec![event]).await.ok();
        is_tried(&servers[0], &room_id, 1).await;
        servers[0].clock().advance(UNTIL_KEYS);
        // Whatever comes has the inbox looked at.
        resident.say("what was that?").await;
        is_tried(&servers[0], &room_id, 2).await;
        assert!(!is_there(&alice, &room_id, &said).await);
        servers[0].clock().advance(PATIENCE);
        resident.say("that was it").await;
        hear(&alice, &room_id, &said).await;
        let joined = get_state(&alice, &room_id, "m.room.member", &guest.user_id).await;
        joined.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}
