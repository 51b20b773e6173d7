//! What servers tell each other by themselves.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc, time::Duration};

use axum::{Json, Router, routing::put};
use parley_conformance::{Client, Peer, Resident, TestServer, federated};
use parley_federation::DestinationStatus;
use ruma::ServerName;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use super::rooms::{becomes, hear, join_by, read, say, sync_from, sync_until};
use crate::rooms::{BASE, act, act_self, create_public, quoted};

/// What is told of a room that isn't an event of its timeline.
fn ephemeral<'a>(told: &'a Value, room_id: &str, event_type: &str) -> Option<&'a Value> {
    let events = told["rooms"]["join"][room_id]["ephemeral"]["events"].as_array()?;
    let event = events.iter().find(|event| event["type"] == event_type)?;
    Some(&event["content"])
}

async fn types(client: &Client, room_id: &str, types: bool) {
    let (room, user) = (quoted(room_id), quoted(&client.user_id));
    let path = format!("{BASE}/rooms/{room}/typing/{user}");
    let body = json!({ "typing": types, "timeout": 20_000 });
    client.put(&path, body).await.ok();
}

/// Has somebody say that they have read the main timeline up to an event.
async fn has_read(client: &Client, room_id: &str, event_id: &str) {
    let (room, event) = (quoted(room_id), quoted(event_id));
    let path = format!("{BASE}/rooms/{room}/receipt/m.read/{event}");
    let main = json!({ "thread_id": "main" });
    client.post(&path, main).await.ok();
}

/// What users say of themselves whose presence [`read_and_present`] looks for.
const AS_THE_PEER_SAYS: &str = "as the peer says";

/// Whose receipts and presence are told, in as many answers as it takes until there's something of both.
async fn read_and_present(
    client: &Client,
    room_id: &str,
    event_id: &str,
) -> (BTreeSet<String>, BTreeSet<String>) {
    let (read, present) = (RefCell::new(BTreeSet::new()), RefCell::new(BTreeSet::new()));
    let is_told = |told: &Value| {
        let receipts = ephemeral(told, room_id, "m.receipt");
        let receipts = receipts.and_then(|all| all[event_id]["m.read"].as_object());
        let readers = receipts.into_iter().flat_map(|read| read.keys().cloned());
        read.borrow_mut().extend(readers);
        let events = told["presence"]["events"].as_array().into_iter().flatten();
        let of_peer = events.filter(|event| event["content"]["status_msg"] == AS_THE_PEER_SAYS);
        let senders = of_peer.map(|event| event["sender"].as_str().unwrap().to_owned());
        present.borrow_mut().extend(senders);
        !read.borrow().is_empty() && !present.borrow().is_empty()
    };
    sync_until(client, is_told).await;
    (read.into_inner(), present.into_inner())
}

/// Has a server tried again by another, until it is reached and has everything.
pub(super) async fn reach(server: &TestServer, name: &str) {
    let name = <&ServerName>::try_from(name).unwrap();
    let status = async || {
        let all = server.federation().destinations_status().await.unwrap();
        all.into_iter()
            .find(|status| status.server_name == name.as_str())
    };
    let reached = async {
        loop {
            server.federation().retry(name).await;
            let is_reached = |status: DestinationStatus| {
                status.failing_since.is_none() && status.rooms_behind == 0
            };
            if status().await.is_none_or(is_reached) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
    if reached.is_err() {
        panic!("the server isn't reached in time: {:#?}", status().await);
    }
}

/// Waits until somebody is in no room any more.
async fn put_out(client: &Client) {
    let out = async {
        let path = format!("{BASE}/joined_rooms");
        while client.get(&path).await.ok()["joined_rooms"] != json!([]) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let out = tokio::time::timeout(Duration::from_secs(20), out).await;
    out.expect("the server hears of it in time");
}

#[tokio::test]
async fn who_types_and_who_has_read_what_is_seen_on_other_servers() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create_public(&alice).await;
        join_by(&bob, &room_id, &servers[0]).await;
        let event_id = say(&alice, &room_id, "hello").await;
        hear(&bob, &room_id, &event_id).await;

        types(&bob, &room_id, true).await;
        let typing =
            |told: &Value| Some(ephemeral(told, &room_id, "m.typing")?["user_ids"].clone());
        let is_typed_by = |told: &Value, users: Value| typing(told) == Some(users);
        sync_until(&alice, |told| is_typed_by(told, json!([bob.user_id]))).await;
        types(&bob, &room_id, false).await;
        let nobody = |told: &Value| typing(told).is_none_or(|users| users == json!([]));
        sync_until(&alice, nobody).await;

        has_read(&bob, &room_id, &event_id).await;
        let told = sync_until(&alice, |told| {
            let receipts = ephemeral(told, &room_id, "m.receipt");
            receipts.is_some_and(|all| all[&event_id]["m.read"][&bob.user_id].is_object())
        })
        .await;
        let receipts = ephemeral(&told, &room_id, "m.receipt").unwrap();
        assert_eq!(
            receipts[&event_id]["m.read"][&bob.user_id]["thread_id"],
            "main"
        );
    })
    .await;
}

#[tokio::test]
async fn who_types_is_told_to_clients_that_begin_also_after_messages_and_receipts() {
    federated(3, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let carol = servers[2].register("carol").await;
        let room_id = create_public(&alice).await;
        join_by(&bob, &room_id, &servers[0]).await;
        join_by(&carol, &room_id, &servers[0]).await;
        becomes(&bob, &room_id, &carol, "join").await;
        types(&bob, &room_id, true).await;
        let sentinel = say(&bob, &room_id, "sentinel").await;
        has_read(&bob, &room_id, &sentinel).await;
        let users = |told: &Value| {
            let typing = ephemeral(told, &room_id, "m.typing");
            typing.map(|content| content["user_ids"].clone())
        };
        for client in [&alice, &carol] {
            sync_until(client, |told| {
                ephemeral(told, &room_id, "m.receipt").is_some()
            })
            .await;
            let told = client.get(&format!("{BASE}/sync")).await.ok();
            assert_eq!(users(&told), Some(json!([bob.user_id])));
        }
    })
    .await;
}

#[tokio::test]
async fn presence_is_seen_on_other_servers() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create_public(&alice).await;
        join_by(&bob, &room_id, &servers[0]).await;
        let path = format!("{BASE}/presence/{}/status", quoted(&bob.user_id));
        let at_sea = json!({ "presence": "online", "status_msg": "at sea" });
        bob.put(&path, at_sea).await.ok();
        let told = sync_until(&alice, |told| {
            let events = told["presence"]["events"].as_array().into_iter().flatten();
            let mut events = events.filter(|event| event["sender"] == bob.user_id);
            events.any(|event| {
                event["content"]["presence"] == "online"
                    && event["content"]["status_msg"] == "at sea"
            })
        })
        .await;
        let away = json!({ "presence": "offline" });
        bob.put(&path, away).await.ok();
        // A client that begins isn't told who is offline.
        sync_from(&alice, &told, |told| {
            let events = told["presence"]["events"].as_array().into_iter().flatten();
            let mut events = events.filter(|event| event["sender"] == bob.user_id);
            events.any(|event| event["content"]["presence"] == "offline")
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_server_tells_only_of_its_own_users_and_of_rooms_that_it_is_in() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let carol = servers[0].register("carol").await;
        let room_id = create_public(&alice).await;
        act_self(&carol, &room_id, "join").await.ok();
        let peer = Peer::start(Router::new()).await;
        let of_peer = format!("@eve:{}", peer.name());
        let edus: Vec<Value> = [&carol.user_id, &of_peer]
            .iter()
            .map(|user_id| {
                let content = json!({ "room_id": room_id, "user_id": user_id, "typing": true });
                json!({ "edu_type": "m.typing", "content": content })
            })
            .chain([
                json!({ "edu_type": "im.unknown", "content": {} }),
                json!({ "edu_type": 7 }),
            ])
            .collect();
        let transaction = json!({
            "origin": peer.name(),
            "origin_server_ts": 1,
            "pdus": [],
            "edus": edus,
        });
        let path = "/_matrix/federation/v1/send/1";
        peer.put(&servers[0], path, transaction).await.ok();
        let path = format!("{BASE}/sync?timeout=0");
        let told = alice.get(&path).await.ok();
        assert!(ephemeral(&told, &room_id, "m.typing").is_none(), "{told}");
    })
    .await;
}

#[tokio::test]
async fn receipts_and_presence_of_others_users_are_not_believed() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let carol = servers[0].register("carol").await;
        let room_id = create_public(&alice).await;
        act_self(&carol, &room_id, "join").await.ok();
        let event_id = say(&alice, &room_id, "hello").await;
        let peer = Peer::start(Router::new()).await;
        let resident = Resident::join(&peer, &servers[0], &room_id).await;
        let elsewhere = "@dave:elsewhere.test".to_owned();
        let users = [&carol.user_id, &elsewhere, &resident.user_id];
        let receipt = |user_id: &String| {
            let read = json!({ user_id: { "data": { "ts": 5 }, "event_ids": [event_id] } });
            let content = json!({ &room_id: { "m.read": read } });
            json!({ "edu_type": "m.receipt", "content": content })
        };
        let presence = users.map(|user_id| {
            json!({
                "user_id": user_id,
                "presence": "unavailable",
                "last_active_ago": 5,
                "status_msg": AS_THE_PEER_SAYS,
            })
        });
        let presence = json!({ "edu_type": "m.presence", "content": { "push": presence } });
        let transaction = json!({
            "origin": peer.name(),
            "origin_server_ts": 1,
            "pdus": [],
            "edus": [receipt(users[0]), receipt(users[1]), receipt(users[2]), presence],
        });
        let path = "/_matrix/federation/v1/send/1";
        peer.put(&servers[0], path, transaction).await.ok();
        let told = read_and_present(&alice, &room_id, &event_id).await;
        let own = BTreeSet::from([resident.user_id.clone()]);
        assert_eq!(told, (own.clone(), own));
    })
    .await;
}

#[tokio::test]
async fn one_receipt_or_presence_that_makes_no_sense_takes_none_of_the_others_along() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let room_id = create_public(&alice).await;
        let event_id = say(&alice, &room_id, "hello").await;
        let peer = Peer::start(Router::new()).await;
        let resident = Resident::join(&peer, &servers[0], &room_id).await;
        let odd = |name: &str| format!("@{name}:{}", peer.name());
        let good = json!({ "data": { "ts": 5 }, "event_ids": [event_id] });
        let receipts = json!({
            "no room": { "m.read": {} },
            "!nothing:peer": {},
            &room_id: { "m.read": {
                "no user": good,
                odd("event"): { "data": { "ts": 5 }, "event_ids": ["hello"] },
                odd("thread"): { "data": { "ts": 5, "thread_id": 7 }, "event_ids": [event_id] },
                &resident.user_id: good,
            } },
        });
        let presence = |user_id: &str, presence: Value| {
            json!({ "user_id": user_id, "presence": presence, "status_msg": AS_THE_PEER_SAYS })
        };
        let push = json!([
            7,
            presence("no user", json!("unavailable")),
            presence(&odd("presence"), json!(7)),
            presence(&resident.user_id, json!("unavailable")),
        ]);
        let transaction = json!({
            "origin": peer.name(),
            "origin_server_ts": 1,
            "pdus": [],
            "edus": [
                { "edu_type": "m.receipt", "content": receipts },
                { "edu_type": "m.presence", "content": { "push": push } },
            ],
        });
        let path = "/_matrix/federation/v1/send/1";
        peer.put(&servers[0], path, transaction).await.ok();
        let told = read_and_present(&alice, &room_id, &event_id).await;
        let own = BTreeSet::from([resident.user_id.clone()]);
        assert_eq!(told, (own.clone(), own));
    })
    .await;
}

/// A server that answers transactions only when it is let, and says what the events in them say.
fn slow(gate: &Arc<Semaphore>) -> (Router, mpsc::UnboundedReceiver<String>) {
    let (told, hears) = mpsc::unbounded_channel();
    let gate = Arc::clone(gate);
    let send = move |Json(transaction): Json<Value>| {
        let (gate, told) = (Arc::clone(&gate), told.clone());
        async move {
            gate.acquire().await.unwrap().forget();
            for event in transaction["pdus"].as_array().unwrap() {
                let text = event["content"]["body"].as_str().unwrap_or_default();
                told.send(text.to_owned()).unwrap();
            }
            Json(json!({ "pdus": {} }))
        }
    };
    let router = Router::new().route("/_matrix/federation/v1/send/{id}", put(send));
    (router, hears)
}

#[tokio::test]
async fn a_server_that_is_slower_than_a_room_gets_the_newest_of_it() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let room_id = create_public(&alice).await;
        let gate = Arc::new(Semaphore::new(0));
        let (router, mut hears) = slow(&gate);
        let peer = Peer::start(router).await;
        let _resident = Resident::join(&peer, &servers[0], &room_id).await;
        const SAID: usize = 520;
        for count in 0..SAID {
            say(&alice, &room_id, &count.to_string()).await;
        }
        let all = servers[0].federation().destinations_status().await.unwrap();
        assert!(all.iter().all(|status| status.waiting <= 500), "{all:?}");
        gate.add_permits(1_000);
        let last = (SAID - 1).to_string();
        let mut heard = 0;
        while hears.recv().await.unwrap() != last {
            heard += 1;
        }
        assert!(heard < SAID - 1, "the middle is for the server to ask for");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_was_gone_catches_up() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let (one, two) = (create_public(&alice).await, create_public(&alice).await);
        for room_id in [&one, &two] {
            join_by(&bob, room_id, &servers[0]).await;
        }
        let before = say(&alice, &one, "before").await;
        hear(&bob, &one, &before).await;
        servers[1].stop().await;
        for count in 0..60 {
            say(&alice, &one, &format!("one {count:02}")).await;
            say(&alice, &two, &format!("two {count:02}")).await;
        }
        // What it lacks outlives a restart of the one that has it.
        servers[0].restart().await;
        let last = [
            say(&alice, &one, "last of one").await,
            say(&alice, &two, "last of two").await,
        ];
        servers[1].start_again().await;
        let name = servers[1].name().to_owned();
        reach(&servers[0], &name).await;
        hear(&bob, &one, &last[0]).await;
        hear(&bob, &two, &last[1]).await;
        for room_id in [&one, &two] {
            // In whatever order: the middle of a long gap is read from the past.
            let (mut said, mut heard) = (read(&alice, room_id).await, read(&bob, room_id).await);
            said.sort();
            heard.sort();
            assert_eq!(heard, said, "nothing is missing, nothing twice");
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_was_gone_learns_how_far_others_have_read_meanwhile() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let carol = servers[0].register("carol").await;
        let bob = servers[1].register("bob").await;
        let room_id = create_public(&alice).await;
        act_self(&carol, &room_id, "join").await.ok();
        join_by(&bob, &room_id, &servers[0]).await;
        let first = say(&bob, &room_id, "first").await;
        let second = say(&bob, &room_id, "second").await;
        for client in [&alice, &carol] {
            hear(client, &room_id, &second).await;
        }
        servers[1].stop().await;
        let reads = async |client: &Client, event_id: &str, thread: Value| {
            let (room, event) = (quoted(&room_id), quoted(event_id));
            let path = format!("{BASE}/rooms/{room}/receipt/m.read/{event}");
            client.post(&path, thread).await.ok();
        };
        reads(&alice, &first, json!({})).await;
        reads(&alice, &second, json!({ "thread_id": "main" })).await;
        // That outlives a restart of the one that has it.
        servers[0].restart().await;
        reads(&carol, &first, json!({})).await;
        reads(&carol, &second, json!({})).await;
        servers[1].start_again().await;
        let name = servers[1].name().to_owned();
        reach(&servers[0], &name).await;
        let mut missing = vec![
            (first.clone(), &alice, Value::Null),
            (second.clone(), &alice, json!("main")),
            (second.clone(), &carol, Value::Null),
        ];
        let missing = std::cell::RefCell::new(&mut missing);
        sync_until(&bob, |told| {
            let mut missing = missing.borrow_mut();
            if let Some(receipts) = ephemeral(told, &room_id, "m.receipt") {
                missing.retain(|(event_id, client, thread)| {
                    let read = &receipts[event_id]["m.read"][&client.user_id];
                    !read.is_object() || read["thread_id"] != *thread
                });
            }
            missing.is_empty()
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn who_joined_by_another_server_is_made_known_to_a_third_that_was_gone() {
    federated(3, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let carol = servers[2].register("carol").await;
        let room_id = create_public(&alice).await;
        join_by(&bob, &room_id, &servers[0]).await;
        servers[1].stop().await;
        join_by(&carol, &room_id, &servers[0]).await;
        servers[0].restart().await;
        servers[1].start_again().await;
        let name = servers[1].name().to_owned();
        reach(&servers[0], &name).await;
        becomes(&bob, &room_id, &carol, "join").await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_was_gone_is_told_as_soon_as_it_speaks() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create_public(&alice).await;
        join_by(&bob, &room_id, &servers[0]).await;
        servers[1].stop().await;
        let missed = say(&alice, &room_id, "missed").await;
        // It fails often enough to be left alone for long.
        let name = servers[1].name().to_owned();
        let name = <&ServerName>::try_from(name.as_str()).unwrap();
        for _ in 0..6 {
            let all = async || servers[0].federation().destinations_status().await.unwrap();
            let failures = async || all().await.first().map_or(0, |status| status.failures);
            let before = failures().await;
            let remote = servers[0].engine().outside().remote().unwrap();
            let alias = ruma::room_alias_id!("#a:b");
            let _ = remote.query_directory(name, alias, true).await;
            assert!(failures().await >= before);
        }
        servers[1].start_again().await;
        say(&bob, &room_id, "I am back").await;
        hear(&bob, &room_id, &missed).await;
    })
    .await;
}

#[tokio::test]
async fn a_server_is_tried_again_whichever_node_hears_of_it() {
    federated(2, async |servers| {
        let Some(mut second) = servers[0].second_node().await else {
            return;
        };
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create_public(&alice).await;
        join_by(&bob, &room_id, &servers[0]).await;
        let name = servers[1].name().to_owned();
        let name = <&ServerName>::try_from(name.as_str()).unwrap();
        // From here on the other node believes that it knows.
        assert!(!second.federation().retry(name).await);
        servers[1].stop().await;
        let missed = say(&alice, &room_id, "missed").await;
        // It fails often enough to be left alone for long.
        for _ in 0..6 {
            let remote = servers[0].engine().outside().remote().unwrap();
            let alias = ruma::room_alias_id!("#a:b");
            let _ = remote.query_directory(name, alias, true).await;
        }
        servers[1].start_again().await;
        while !second.federation().retry(name).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        hear(&bob, &room_id, &missed).await;
        second.stop().await;
    })
    .await;
}

#[tokio::test]
async fn who_is_put_out_of_a_room_learns_of_it_although_their_server_is_no_longer_in_it() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create_public(&alice).await;
        join_by(&bob, &room_id, &servers[0]).await;
        act(&alice, &room_id, "kick", &bob).await.ok();
        put_out(&bob).await;
        join_by(&bob, &room_id, &servers[0]).await;
        servers[1].stop().await;
        act(&alice, &room_id, "ban", &bob).await.ok();
        servers[1].start_again().await;
        let name = servers[1].name().to_owned();
        reach(&servers[0], &name).await;
        put_out(&bob).await;
    })
    .await;
}

#[tokio::test]
async fn servers_that_are_gone_for_good_keep_nobody_waiting() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create_public(&alice).await;
        join_by(&bob, &room_id, &servers[0]).await;
        servers[1].stop().await;
        let all_said = async {
            for count in 0..200 {
                say(&alice, &room_id, &count.to_string()).await;
            }
        };
        let all_said = tokio::time::timeout(Duration::from_secs(30), all_said).await;
        all_said.expect("nobody waits for the other server");
        let all = servers[0].federation().destinations_status().await.unwrap();
        assert!(all[0].waiting < 200, "{all:?}");
    })
    .await;
}

#[tokio::test]
async fn a_client_is_told_that_it_lacks_what_its_server_lacks() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create_public(&alice).await;
        join_by(&bob, &room_id, &servers[0]).await;
        let before = say(&alice, &room_id, "before").await;
        hear(&bob, &room_id, &before).await;
        let told = bob.get(&format!("{BASE}/sync?timeout=0")).await.ok();
        let since = told["next_batch"].as_str().unwrap();
        let own = say(&bob, &room_id, "own").await;
        hear(&alice, &room_id, &own).await;
        servers[1].stop().await;
        // More than another server gives of what is missing.
        for count in 0..70 {
            say(&alice, &room_id, &format!("{count:02}")).await;
        }
        let last = say(&alice, &room_id, "last").await;
        servers[1].start_again().await;
        let name = servers[1].name().to_owned();
        reach(&servers[0], &name).await;
        hear(&bob, &room_id, &last).await;
        for _ in 0..2 {
            let filter = quoted(r#"{"room":{"timeline":{"limit":100}}}"#);
            let path = format!("{BASE}/sync?timeout=0&since={since}&filter={filter}");
            let told = bob.get(&path).await.ok();
            let timeline = &told["rooms"]["join"][&room_id]["timeline"];
            assert_eq!(timeline["limited"], true, "{timeline}");
            let events = timeline["events"].as_array().unwrap();
            assert!(events.len() <= 51, "{timeline}");
            assert_eq!(events.last().unwrap()["event_id"], *last);
            assert!(events.iter().all(|event| event["sender"] == alice.user_id));
            servers[1].restart().await;
        }
        let (mut said, mut heard) = (read(&alice, &room_id).await, read(&bob, &room_id).await);
        said.sort();
        heard.sort();
        assert_eq!(heard, said, "nothing is missing, nothing twice");
    })
    .await;
}
