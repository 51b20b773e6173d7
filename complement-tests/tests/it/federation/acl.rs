//! Rooms that keep servers out.

use std::{cell::RefCell, collections::BTreeSet, net::Ipv4Addr};

use axum::Router;
use parley_conformance::{Peer, Resident, federated};
use serde_json::{Value, json};

use super::rooms::{say, sync_until};
use crate::rooms::{create_public, set_state};

#[tokio::test]
async fn who_types_and_has_read_on_a_server_that_a_room_keeps_out_is_not_told_there() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let (closed_id, open_id) = (create_public(&alice).await, create_public(&alice).await);
        // Lists are of names without ports, so it must have another address.
        let address = Ipv4Addr::new(127, 0, 0, 2);
        let peer = Peer::start_at(address, Router::new()).await;
        let resident = Resident::join(&peer, &servers[0], &closed_id).await;
        Resident::join(&peer, &servers[0], &open_id).await;
        let user_id = &resident.user_id;
        let list = json!({ "allow": ["*"], "deny": [address.to_string()] });
        let listed = set_state(&alice, &closed_id, "m.room.server_acl", "", list);
        listed.await.ok();
        let mut edus = Vec::new();
        // Last of the one where it is heeded: when that is there, the other was taken or won't be.
        for room_id in [&closed_id, &open_id] {
            let said = say(&alice, room_id, "hello").await;
            let typing = json!({ "room_id": room_id, "user_id": user_id, "typing": true });
            let read = json!({ user_id: { "data": { "ts": 5 }, "event_ids": [said] } });
            let receipt = json!({ room_id: { "m.read": read } });
            edus.push(json!({ "edu_type": "m.typing", "content": typing }));
            edus.push(json!({ "edu_type": "m.receipt", "content": receipt }));
        }
        let transaction = json!({
            "origin": peer.name(), "origin_server_ts": 1, "pdus": [], "edus": edus,
        });
        let path = "/_matrix/federation/v1/send/1";
        peer.put(&servers[0], path, transaction).await.ok();
        let heard = RefCell::new(BTreeSet::new());
        let is_told = |told: &Value| {
            for room_id in [&closed_id, &open_id] {
                let events = told["rooms"]["join"][room_id]["ephemeral"]["events"].as_array();
                let of_peer = events.into_iter().flatten();
                let of_peer = of_peer.filter(|event| event.to_string().contains(&**user_id));
                let types = of_peer.map(|event| event["type"].as_str().unwrap().to_owned());
                let told = types.map(|event_type| (room_id.clone(), event_type));
                heard.borrow_mut().extend(told);
            }
            heard.borrow().len() > 1
        };
        sync_until(&alice, is_told).await;
        let expected = ["m.receipt", "m.typing"].map(|what| (open_id.clone(), what.to_owned()));
        assert_eq!(heard.into_inner(), BTreeSet::from(expected));
    })
    .await;
}
