//! Servers that fail: how long they are left alone, and what ends that.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, put},
};
use parley_conformance::{Peer, Resident, TestOptions, TestServer, federated_with};
use parley_engine::clock::ManualClock;
use parley_federation::DestinationStatus;
use reqwest::Method;
use ruma::{MilliSecondsSinceUnixEpoch, RoomVersionId, room_id, user_id};
use serde_json::{Value, json};

use super::rooms::say;
use crate::rooms::create_public;

const ROOMS: &str = "/_matrix/federation/v1/publicRooms";

fn now() -> u64 {
    u64::from(MilliSecondsSinceUnixEpoch::now().get())
}

/// Servers whose clocks stand still.
fn options(_: usize) -> TestOptions {
    let now = i64::try_from(now()).unwrap();
    TestOptions {
        clock: Some(Arc::new(ManualClock::new(now))),
        ..TestOptions::default()
    }
}

/// What a peer does with what it is told.
#[derive(Clone, Debug)]
struct Moody {
    /// With what status it answers to transactions and questions.
    status: Arc<AtomicU16>,
    /// The events that it has taken.
    taken: Arc<Mutex<Vec<Value>>>,
}

impl Moody {
    fn new(status: u16) -> Self {
        Self {
            status: Arc::new(AtomicU16::new(status)),
            taken: Arc::default(),
        }
    }

    fn set(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status.load(Ordering::SeqCst)).unwrap()
    }

    async fn peer(&self) -> Peer {
        let hear = async |State(moody): State<Self>, Json(transaction): Json<Value>| {
            let status = moody.status();
            if status.is_success() {
                let pdus = transaction["pdus"].as_array().cloned();
                moody.taken.lock().unwrap().extend(pdus.unwrap_or_default());
            }
            (status, Json(json!({ "pdus": {} })))
        };
        let tell = async |State(moody): State<Self>| (moody.status(), Json(json!({})));
        let base = "/_matrix/federation/v1";
        let router = Router::new()
            .route(&format!("{base}/send/{{id}}"), put(hear))
            .route(&format!("{base}/query/profile"), get(tell))
            .with_state(self.clone());
        Peer::start(router).await
    }
}

async fn status(server: &TestServer, peer: &Peer) -> DestinationStatus {
    let all = server.federation().destinations_status().await.unwrap();
    let mut all = all.into_iter();
    let of_peer = all.find(|status| status.server_name == peer.name().as_str());
    of_peer.expect("the server was spoken with")
}

/// Waits until a server has failed so often; gives for how long it is left alone then.
async fn fails(server: &TestServer, peer: &Peer, failures: i64) -> Duration {
    let failed = async {
        loop {
            let all = server.federation().destinations_status().await.unwrap();
            let of_peer = all
                .into_iter()
                .find(|status| status.server_name == peer.name().as_str());
            if let Some(status) = of_peer.filter(|status| status.failures >= failures) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let failed = tokio::time::timeout(Duration::from_secs(20), failed).await;
    let failed = failed.expect("the server fails in time");
    assert_eq!(failed.failures, failures);
    let clock = parley_engine::clock::Clock::now_ms(server.clock());
    Duration::from_millis(u64::try_from(failed.retry_at.unwrap() - clock).unwrap())
}

#[tokio::test]
async fn a_server_that_refuses_transactions_is_left_alone_longer_each_time() {
    federated_with(1, options, async |servers| {
        let server = &servers[0];
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let moody = Moody::new(200);
        let peer = moody.peer().await;
        Resident::join(&peer, server, &room_id).await;
        moody.set(403);
        let mut least = Duration::from_secs(4);
        for failures in 1..=6 {
            say(&alice, &room_id, &failures.to_string()).await;
            let pause = fails(server, &peer, failures).await;
            assert!(pause >= least, "{failures}: {pause:?}");
            server.clock().advance(pause);
            least *= 2;
        }
        moody.set(200);
        say(&alice, &room_id, "last").await;
        super::sending::reach(server, peer.name().as_str()).await;
        assert_eq!(status(server, &peer).await.failures, 0);
    })
    .await;
}

#[tokio::test]
async fn what_waits_for_a_server_is_sent_as_soon_as_a_user_reaches_it() {
    federated_with(1, options, async |servers| {
        let server = &servers[0];
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let moody = Moody::new(200);
        let peer = moody.peer().await;
        Resident::join(&peer, server, &room_id).await;
        moody.set(500);
        let said = say(&alice, &room_id, "missed").await;
        fails(server, &peer, 1).await;
        moody.set(200);
        // Whatever it answers: it is there.
        let remote = server.engine().outside().remote().unwrap();
        let asked = remote.make_join(
            peer.name(),
            room_id!("!a:b"),
            user_id!("@a:b"),
            &[RoomVersionId::V11],
        );
        asked.await.unwrap_err();
        let heard = async {
            while moody.taken.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let heard = tokio::time::timeout(Duration::from_secs(20), heard).await;
        heard.expect("it is told although the clock stands still");
        let taken = moody.taken.lock().unwrap().clone();
        let body = &taken[0]["content"]["body"];
        assert_eq!(*body, "missed", "{said}");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_fails_is_asked_for_its_keys_when_it_speaks_itself() {
    federated_with(1, options, async |servers| {
        let server = &servers[0];
        let moody = Moody::new(500);
        let peer = moody.peer().await;
        peer.publish(peer.keys_until(now() + 60_000));
        peer.get(server, ROOMS).await.ok();
        let remote = server.engine().outside().remote().unwrap();
        let mut pause = Duration::ZERO;
        for failures in 1..=8 {
            server.clock().advance(pause);
            let user = user_id!("@a:b");
            let asked = remote.query_profile(peer.name(), user, None).await;
            asked.unwrap_err();
            pause = fails(server, &peer, failures).await;
        }
        // By now its keys hold no longer, and it is still to be left alone.
        peer.publish(peer.keys_until(now() + 86_400_000));
        let wanted = parley_engine::remote::WantedKey {
            server: peer.name().clone(),
            key_id: "ed25519:peer".try_into().unwrap(),
            valid_at: parley_engine::clock::Clock::now(server.clock()),
        };
        let asked = peer.asked_for_keys();
        let found = remote.keys(vec![wanted.clone()]).await;
        assert!(found.values().all(|key| key.valid_until < wanted.valid_at));
        assert_eq!(peer.asked_for_keys(), asked, "others don't have it asked");
        peer.get(server, ROOMS).await.ok();
        assert_eq!(status(server, &peer).await.failures, 0);
    })
    .await;
}

#[tokio::test]
async fn who_only_names_servers_leaves_nothing_behind_of_how_it_went_with_them() {
    federated_with(1, options, async |servers| {
        let server = &servers[0];
        let peer = Peer::start(Router::new()).await;
        peer.get(server, ROOMS).await.ok();
        let right = peer.authorization(server.name(), &Method::GET, ROOMS, None);
        let spoofed = right.replace(peer.name().as_str(), "127.0.0.1:1");
        let answer = peer.send_with(server, Method::GET, ROOMS, None, Some(&spoofed));
        answer.await.is_refused(401, "M_UNAUTHORIZED");
        let client = server.client();
        client.get("/_matrix/key/v2/query/127.0.0.1:2").await.ok();
        let all = server.federation().destinations_status().await.unwrap();
        assert_eq!(all, []);
    })
    .await;
}
