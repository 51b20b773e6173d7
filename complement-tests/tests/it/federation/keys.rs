//! The keys of servers: published, asked for, vouched for.

use std::{sync::Arc, time::Duration};

use axum::Router;
use parley_conformance::{Peer, TestOptions, TestServer, federated, federated_with};
use parley_engine::{
    clock::ManualClock,
    remote::{KnownKeys, WantedKey},
};
use ruma::MilliSecondsSinceUnixEpoch;
use serde_json::{Value, json};

const DAY: u64 = 24 * 60 * 60 * 1_000;

fn now() -> u64 {
    u64::from(MilliSecondsSinceUnixEpoch::now().get())
}

async fn get(server: &TestServer, path: &str) -> Value {
    server.client().get(path).await.ok()
}

fn signers(keys: &Value) -> Vec<String> {
    keys["signatures"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect()
}

async fn find(server: &TestServer, peer: &Peer, valid_at: u64) -> KnownKeys {
    let wanted = WantedKey {
        server: peer.name().clone(),
        key_id: "ed25519:peer".try_into().unwrap(),
        valid_at: MilliSecondsSinceUnixEpoch(valid_at.try_into().unwrap()),
    };
    let remote = server.engine().outside().remote().unwrap();
    remote.keys(vec![wanted]).await
}

#[tokio::test]
async fn a_server_publishes_its_key_signed_and_for_some_time() {
    federated(1, async |servers| {
        let keys = get(&servers[0], "/_matrix/key/v2/server").await;
        assert_eq!(keys["server_name"], servers[0].name());
        assert_eq!(signers(&keys), [servers[0].name()]);
        let valid_until = keys["valid_until_ts"].as_u64().unwrap();
        assert!(valid_until > now() + DAY / 2);
        assert_eq!(keys["old_verify_keys"], json!({}));
        let (id, _) = keys["verify_keys"]
            .as_object()
            .unwrap()
            .iter()
            .next()
            .unwrap();
        let by_id = format!("/_matrix/key/v2/server/{id}");
        assert_eq!(
            get(&servers[0], &by_id).await["verify_keys"],
            keys["verify_keys"]
        );
        servers[0].restart().await;
        let again = get(&servers[0], "/_matrix/key/v2/server").await;
        assert_eq!(again["verify_keys"], keys["verify_keys"]);
    })
    .await;
}

#[tokio::test]
async fn a_notary_tells_keys_with_its_own_signature_even_when_their_server_is_gone() {
    federated(2, async |servers| {
        let (notary, other) = (servers[0].name().to_owned(), servers[1].name().to_owned());
        let path = format!("/_matrix/key/v2/query/{other}");
        let batch = json!({ "server_keys": { &other: {}, &notary: {} } });
        for round in 0..2 {
            let told = get(&servers[0], &path).await;
            let keys = &told["server_keys"][0];
            assert_eq!(keys["server_name"], other);
            let mut expected = [notary.clone(), other.clone()];
            expected.sort();
            assert_eq!(signers(keys), expected);
            let client = servers[0].client();
            let told = client
                .post("/_matrix/key/v2/query", batch.clone())
                .await
                .ok();
            assert_eq!(told["server_keys"].as_array().unwrap().len(), 2);
            if round == 0 {
                servers[1].stop().await;
                servers[0].restart().await;
            }
        }
        let nobody = "/_matrix/key/v2/query/127.0.0.1:1";
        assert_eq!(get(&servers[0], nobody).await["server_keys"], json!([]));
        let none = json!({ "server_keys": {} });
        let told = servers[0]
            .client()
            .post("/_matrix/key/v2/query", none)
            .await
            .ok();
        assert_eq!(told["server_keys"], json!([]));
        servers[1].start_again().await;
    })
    .await;
}

#[tokio::test]
async fn keys_are_asked_for_once_and_again_only_when_they_no_longer_hold() {
    federated(1, async |servers| {
        let peer = Peer::start(Router::new()).await;
        let all = (0..10).map(|_| find(&servers[0], &peer, now()));
        for found in futures::future::join_all(all).await {
            assert_eq!(found.len(), 1);
        }
        assert_eq!(peer.asked_for_keys(), 1);
        servers[0].restart().await;
        find(&servers[0], &peer, now()).await;
        assert_eq!(peer.asked_for_keys(), 1, "keys are stored");
        let found = find(&servers[0], &peer, now() + 3 * DAY).await;
        assert_eq!(peer.asked_for_keys(), 2);
        let key = found.values().next().unwrap();
        assert!(
            u64::from(key.valid_until.get()) < now() + 3 * DAY,
            "and says how long it holds"
        );
    })
    .await;
}

#[tokio::test]
async fn keys_that_are_forged_or_of_another_server_are_not_taken() {
    federated(1, async |servers| {
        let (peer, other) = (
            Peer::start(Router::new()).await,
            Peer::start(Router::new()).await,
        );
        peer.publish(other.keys_until(now() + DAY));
        assert!(find(&servers[0], &peer, now()).await.is_empty());
        let forged = Peer::start(Router::new()).await;
        let mut keys = forged.keys_until(now() + DAY);
        keys["valid_until_ts"] = json!(now() + 2 * DAY);
        forged.publish(keys);
        assert!(find(&servers[0], &forged, now()).await.is_empty());
        let asked = forged.asked_for_keys();
        assert!(find(&servers[0], &forged, now()).await.is_empty());
        assert_eq!(
            forged.asked_for_keys(),
            asked,
            "a failure is remembered for a while"
        );
    })
    .await;
}

#[tokio::test]
async fn a_trusted_notary_vouches_for_a_server_that_is_gone() {
    let peer = Peer::start(Router::new()).await;
    federated(1, async |notaries| {
        find(&notaries[0], &peer, now()).await;
        let notary = notaries[0].name().to_owned();
        let options = |_| {
            let mut options = TestOptions::default();
            options.federation.notaries = vec![notary.clone().try_into().unwrap()];
            options
        };
        // What the server itself publishes is of no use.
        let before = peer.keys_until(now() + DAY);
        peer.publish(json!({}));
        federated_with(1, options, async |servers| {
            assert_eq!(find(&servers[0], &peer, now()).await.len(), 1);
        })
        .await;
        federated(1, async |servers| {
            assert!(find(&servers[0], &peer, now()).await.is_empty());
        })
        .await;
        peer.publish(before);
    })
    .await;
}

#[tokio::test]
async fn a_notary_asks_again_for_keys_that_are_wanted_for_longer_than_they_hold() {
    let options = |_| TestOptions {
        clock: Some(Arc::new(ManualClock::new(now().try_into().unwrap()))),
        ..TestOptions::default()
    };
    federated_with(1, options, async |servers| {
        let server = &servers[0];
        let peer = Peer::start(Router::new()).await;
        let (name, begin) = (peer.name(), now());
        peer.publish(peer.keys_until(begin + DAY));
        let told = async |until: Option<u64>| {
            let query = until.map(|until| format!("?minimum_valid_until_ts={until}"));
            let query = query.unwrap_or_default();
            let told = get(server, &format!("/_matrix/key/v2/query/{name}{query}")).await;
            let keys = &told["server_keys"][0];
            (
                keys["valid_until_ts"].as_u64().unwrap(),
                peer.asked_for_keys(),
            )
        };
        assert_eq!(told(None).await, (begin + DAY, 1));
        assert_eq!(told(Some(begin + DAY / 2)).await, (begin + DAY, 1));
        peer.publish(peer.keys_until(begin + 2 * DAY));
        let longer = Some(begin + DAY + DAY / 2);
        // It has just been asked; what there is, is told.
        assert_eq!(told(longer).await, (begin + DAY, 1));
        server.clock().advance(Duration::from_secs(5 * 60));
        assert_eq!(told(longer).await, (begin + 2 * DAY, 2));
        let batch = json!({ "server_keys": { name.as_str(): {
            "ed25519:peer": { "minimum_valid_until_ts": begin + 3 * DAY }
        } } });
        let ask = async || {
            let client = server.client();
            let told = client
                .post("/_matrix/key/v2/query", batch.clone())
                .await
                .ok();
            told["server_keys"][0]["valid_until_ts"].as_u64().unwrap()
        };
        assert_eq!(ask().await, begin + 2 * DAY);
        server.clock().advance(Duration::from_secs(5 * 60));
        // It doesn't publish any that hold longer.
        assert_eq!((ask().await, peer.asked_for_keys()), (begin + 2 * DAY, 3));
        peer.publish(json!({}));
        server.clock().advance(Duration::from_secs(5 * 60));
        assert_eq!((ask().await, peer.asked_for_keys()), (begin + 2 * DAY, 4));
    })
    .await;
}
