//! What other servers send, from when it is acknowledged until it is in the room.

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, routing::put};
use parley_conformance::{Client, Peer, Resident, TestOptions, federated, federated_with};
use parley_engine::clock::{Clock, ManualClock};
use ruma::{MilliSecondsSinceUnixEpoch, RoomId};
use serde_json::json;

use super::rooms::{hear, read, say};
use crate::rooms::{create_public, room_path};

/// A server that is told things.
async fn told() -> Peer {
    let told = put(async || Json(json!({ "pdus": {} })));
    Peer::start(Router::new().route("/_matrix/federation/v1/send/{id}", told)).await
}

async fn is_there(client: &Client, room_id: &str, event_id: &str) -> bool {
    let path = format!("event/{}", crate::rooms::quoted(event_id));
    client.get(&room_path(room_id, &path)).await.status == 200
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_acknowledged() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let room_id = create_public(&alice).await;
        let peer = told().await;
        let mut resident = Resident::join(&peer, &servers[0], &room_id).await;
        let (id, event) = resident.message("on a full disk", |_| ());
        servers[0].fail_to("INSERT", "inbox").await;
        let refused = resident.send(vec![event.clone()]).await;
        assert!(refused.status.is_server_error(), "{refused:?}");
        servers[0].mend("inbox").await;
        resident.send(vec![event]).await.ok();
        hear(&alice, &room_id, &id).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_of_a_room_that_cannot_be_read_is_not_acknowledged() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let room_id = create_public(&alice).await;
        let peer = told().await;
        let resident = Resident::join(&peer, &servers[0], &room_id).await;
        let (id, event) = resident.message("while the database is away", |_| ());
        let transaction = json!({
            "origin": peer.name(), "origin_server_ts": 1_700_000_000_000_u64, "pdus": [event],
        });
        // Otherwise the room is in memory.
        servers[0].restart().await;
        let path = "/_matrix/federation/v1/send/away";
        servers[0].hide("rooms").await;
        let refused = peer.put(&servers[0], path, transaction.clone()).await;
        servers[0].show("rooms").await;
        assert!(refused.status.is_server_error(), "{refused:?}");
        peer.put(&servers[0], path, transaction).await.ok();
        hear(&alice, &room_id, &id).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_room_once_the_disk_works_again() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let room_id = create_public(&alice).await;
        let peer = told().await;
        let mut resident = Resident::join(&peer, &servers[0], &room_id).await;
        let mut ids = Vec::new();
        let mut events = Vec::new();
        for text in ["first", "second", "third"] {
            let (id, event) = resident.message(text, |_| ());
            resident.last.clone_from(&id);
            ids.push(id);
            events.push(event);
        }
        // It can be stored for later, and then nothing can be written any more.
        servers[0].fail_to("INSERT", "events").await;
        servers[0].fail_to("UPDATE", "inbox").await;
        resident.send(events).await.ok();
        for is_restarted in [false, true] {
            if is_restarted {
                servers[0].restart().await;
            }
            // Longer than until it is tried once more.
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            assert!(!is_there(&alice, &room_id, &ids[0]).await);
        }
        servers[0].mend("events").await;
        servers[0].mend("inbox").await;
        for id in &ids {
            hear(&alice, &room_id, id).await;
        }
        let said = say(&alice, &room_id, "all there").await;
        hear(&alice, &room_id, &said).await;
        let read = read(&alice, &room_id).await;
        assert_eq!(read, ["all there", "third", "second", "first"]);
    })
    .await;
}

#[tokio::test]
async fn however_much_cannot_be_stored_all_of_it_is_kept() {
    const TRANSACTIONS: usize = 3;
    const EVENTS: usize = 50;
    let options = |_| TestOptions {
        clock: Some(Arc::new(ManualClock::new(
            MilliSecondsSinceUnixEpoch::now().get().into(),
        ))),
        ..TestOptions::default()
    };
    federated_with(1, options, async |servers| {
        let alice = servers[0].register("alice").await;
        let room_id = create_public(&alice).await;
        let peer = told().await;
        let mut resident = Resident::join(&peer, &servers[0], &room_id).await;
        servers[0].fail_to("INSERT", "events").await;
        for _ in 0..TRANSACTIONS {
            let mut events = Vec::with_capacity(EVENTS);
            for _ in 0..EVENTS {
                let (id, event) = resident.message("kept", |_| ());
                resident.last = id;
                events.push(event);
            }
            resident.send(events).await.ok();
        }
        let last = resident.last.clone();
        let id = <&RoomId>::try_from(room_id.as_str()).unwrap();
        let is_tried = async {
            let (database, now) = (servers[0].database(), servers[0].clock().now_ms());
            while !database.inbox(id, now, 1).await.unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let is_tried = tokio::time::timeout(Duration::from_secs(60), is_tried).await;
        is_tried.expect("it is tried in time");
        servers[0].mend("events").await;
        servers[0].clock().advance(Duration::from_secs(61));
        servers[0].restart().await;
        hear(&alice, &room_id, &last).await;
        let read = read(&alice, &room_id).await;
        assert_eq!(read, vec!["kept"; TRANSACTIONS * EVENTS]);
    })
    .await;
}
