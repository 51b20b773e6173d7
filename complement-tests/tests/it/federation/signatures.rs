//! Who may ask, and how they prove it.

use axum::Router;
use parley_conformance::{Peer, TestOptions, federated, federated_with};
use parley_engine::settings::RateLimit;
use reqwest::Method;
use ruma::MilliSecondsSinceUnixEpoch;
use serde_json::json;

const ROOMS: &str = "/_matrix/federation/v1/publicRooms";

#[tokio::test]
async fn a_request_that_is_signed_by_its_server_is_answered() {
    federated(1, async |servers| {
        let peer = Peer::start(Router::new()).await;
        let path = format!("{ROOMS}?limit=10");
        let all = (0..5).map(|_| peer.get(&servers[0], &path));
        for answer in futures::future::join_all(all).await {
            assert_eq!(answer.ok()["chunk"], json!([]));
        }
        assert_eq!(peer.asked_for_keys(), 1);
        let filter = json!({ "filter": { "generic_search_term": "Käse" }, "limit": 3 });
        peer.post(&servers[0], ROOMS, filter).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_request_without_a_right_signature_is_refused() {
    federated(2, async |servers| {
        let peer = Peer::start(Router::new()).await;
        let (server, other) = (&servers[0], servers[1].name());
        let send = async |header: Option<String>| {
            let header = header.as_deref();
            peer.send_with(server, Method::GET, ROOMS, None, header)
                .await
        };
        let get = Method::GET;
        let right = peer.authorization(server.name(), &get, ROOMS, None);
        send(Some(right.clone())).await.ok();
        for wrong in [
            None,
            Some("Bearer abc".to_owned()),
            Some("X-Matrix origin=a".to_owned()),
            // For another server, another path, another method.
            Some(peer.authorization(other, &get, ROOMS, None)),
            Some(peer.authorization(server.name(), &get, "/_matrix/federation/v1/other", None)),
            Some(peer.authorization(server.name(), &Method::PUT, ROOMS, None)),
            // With a key that isn't published.
            Some(right.replace("ed25519:peer", "ed25519:other")),
            // In the name of this server, and of one that isn't there.
            Some(right.replace(peer.name().as_str(), server.name())),
            Some(right.replace(peer.name().as_str(), "127.0.0.1:1")),
        ] {
            let answer = send(wrong.clone()).await;
            assert_eq!(answer.body["errcode"], "M_UNAUTHORIZED", "{wrong:?}");
            answer.is_refused(401, "M_UNAUTHORIZED");
        }
        // Servers from before v1.3 don't say for whom it is.
        let header = right
            .split(',')
            .filter(|part| !part.contains("destination="));
        let header: Vec<&str> = header.collect();
        let header = format!("X-Matrix {}", header.join(","));
        send(Some(header)).await.ok();
    })
    .await;
}

#[tokio::test]
async fn the_body_is_part_of_what_is_signed() {
    federated(1, async |servers| {
        let peer = Peer::start(Router::new()).await;
        let (post, signed) = (Method::POST, json!({ "limit": 1 }));
        let header = peer.authorization(servers[0].name(), &post, ROOMS, Some(&signed));
        let send = async |body| {
            let body = Some(body);
            peer.send_with(&servers[0], Method::POST, ROOMS, body, Some(&header))
                .await
        };
        send(signed.clone()).await.ok();
        send(json!({ "limit": 2 }))
            .await
            .is_refused(401, "M_UNAUTHORIZED");
        send(json!([])).await.is_refused(400, "M_NOT_JSON");
        let float = json!({ "limit": 1.5 });
        send(float).await.is_refused(400, "M_BAD_JSON");
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_no_longer_valid_signs_nothing() {
    federated(1, async |servers| {
        let peer = Peer::start(Router::new()).await;
        let now = u64::from(MilliSecondsSinceUnixEpoch::now().get());
        peer.publish(peer.keys_until(now - 1_000));
        let answer = peer.get(&servers[0], ROOMS).await;
        answer.is_refused(401, "M_UNAUTHORIZED");
    })
    .await;
}

#[tokio::test]
async fn servers_that_are_shut_out_are_refused_whatever_they_sign() {
    let peer = Peer::start(Router::new()).await;
    let options = |index| {
        let mut options = TestOptions::default();
        match index {
            0 => options.federation.denied_servers = vec![peer.name().to_string()],
            1 => options.federation.allowed_servers = vec!["a.example".to_owned()],
            _ => options.federation.enabled = false,
        }
        options
    };
    federated_with(3, options, async |servers| {
        for server in servers {
            peer.get(server, ROOMS).await.is_refused(403, "M_FORBIDDEN");
            let remote = server.engine().outside().get();
            if let Some(remote) = remote {
                let user = ruma::user_id!("@a:b");
                let asked = remote.query_profile(peer.name(), user, None).await;
                assert!(asked.unwrap_err().to_string().contains("doesn't federate"));
            }
        }
        assert_eq!(peer.asked_for_keys(), 0);
    })
    .await;
}

#[tokio::test]
async fn endpoints_that_are_not_there_are_said_to_be_unrecognized() {
    federated(1, async |servers| {
        let peer = Peer::start(Router::new()).await;
        for path in ["/_matrix/federation/v1/nothing", "/_matrix/key/v2/nothing"] {
            peer.get(&servers[0], path)
                .await
                .is_refused(404, "M_UNRECOGNIZED");
        }
        let answer = peer
            .put(&servers[0], "/_matrix/key/v2/query", json!({}))
            .await;
        answer.is_refused(405, "M_UNRECOGNIZED");
    })
    .await;
}

/// Servers that take so much: of one server, and from one address.
fn limited(federation: u32, addresses: u32) -> impl Fn(usize) -> TestOptions {
    move |_| {
        let mut options = TestOptions::default();
        let limits = &mut options.engine.rate_limits;
        limits.enabled = true;
        limits.federation = RateLimit::new(0.001, federation);
        limits.federation_addresses = RateLimit::new(0.001, addresses);
        options
    }
}

#[tokio::test]
async fn what_others_ask_in_a_servers_name_does_not_count_against_it() {
    federated_with(1, limited(3, 1_000), async |servers| {
        let (peer, other) = (
            Peer::start(Router::new()).await,
            Peer::start(Router::new()).await,
        );
        let (server, get) = (&servers[0], Method::GET);
        let own = other.authorization(server.name(), &get, ROOMS, None);
        let spoofed = own.replace(other.name().as_str(), peer.name().as_str());
        for _ in 0..10 {
            let header = Some(&*spoofed);
            let answer = peer.send_with(server, Method::GET, ROOMS, None, header);
            answer.await.is_refused(401, "M_UNAUTHORIZED");
        }
        for _ in 0..3 {
            peer.get(server, ROOMS).await.ok();
        }
        let refused = peer.get(server, ROOMS).await;
        assert!(refused.body["retry_after_ms"].is_u64());
        refused.is_refused(429, "M_LIMIT_EXCEEDED");
        other.get(server, ROOMS).await.ok();
    })
    .await;
}

#[tokio::test]
async fn who_takes_a_new_name_each_time_is_limited_by_address() {
    federated_with(1, limited(1_000, 6), async |servers| {
        let peer = Peer::start(Router::new()).await;
        let server = &servers[0];
        let right = peer.authorization(server.name(), &Method::GET, ROOMS, None);
        for port in 1..=4 {
            let header = right.replace(peer.name().as_str(), &format!("127.0.0.1:{port}"));
            let answer = peer.send_with(server, Method::GET, ROOMS, None, Some(&header));
            answer.await.is_refused(401, "M_UNAUTHORIZED");
        }
        // What needs no signature counts as well.
        let notary = format!("/_matrix/key/v2/query/{}", peer.name());
        let keys = "/_matrix/key/v2/server/ed25519:a";
        for path in [&*notary, keys] {
            server.client().get(path).await.ok();
        }
        for path in [&*notary, keys, "/_matrix/federation/v1/version"] {
            let refused = server.client().get(path).await;
            refused.is_refused(429, "M_LIMIT_EXCEEDED");
        }
        let refused = peer.get(server, ROOMS).await;
        refused.is_refused(429, "M_LIMIT_EXCEEDED");
        assert_eq!(
            server.client().get("/_matrix/client/versions").await.status,
            200
        );
    })
    .await;
}
