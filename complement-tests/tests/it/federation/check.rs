//! What an administrator is told of other servers.

use std::time::Duration;

use axum::{Json, Router, routing::get};
use parley_conformance::{Peer, TestServer, federated};
use parley_federation::{DestinationStatus, Finding, Verdict};
use ruma::ServerName;
use serde_json::json;

use super::{
    rooms::{hear, join_by, say},
    sending::reach,
};
use crate::rooms::create_public;

async fn check(server: &TestServer, name: &str) -> Vec<Finding> {
    let name = <&ServerName>::try_from(name).unwrap();
    server.federation().check(name).await
}

fn bad(findings: &[Finding]) -> Vec<&str> {
    let bad = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Bad);
    bad.map(|finding| finding.text.as_str()).collect()
}

#[tokio::test]
async fn servers_that_can_speak_with_each_other_are_told_so() {
    federated(2, async |servers| {
        for name in [servers[1].name(), servers[0].name()] {
            let findings = check(&servers[0], name).await;
            assert_eq!(bad(&findings), [""; 0], "{findings:#?}");
            let good = findings
                .iter()
                .filter(|finding| finding.verdict == Verdict::Good);
            let is_own = name == servers[0].name();
            assert_eq!(good.count(), if is_own { 2 } else { 3 }, "{findings:#?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_keeps_servers_apart_is_said() {
    federated(1, async |servers| {
        let nobody = check(&servers[0], "127.0.0.1:1").await;
        assert_eq!(bad(&nobody).len(), 1, "{nobody:#?}");
        let private = check(&servers[0], "10.0.0.1:1").await;
        assert!(
            bad(&private)[0].contains("federation.permitted_networks"),
            "{private:#?}"
        );

        // Answers, but with keys of somebody else, and accepts nothing.
        let version = get(async || Json(json!({ "server": { "name": "Else" } })));
        let router = Router::new().route("/_matrix/federation/v1/version", version);
        let profile = get(async || {
            let refused = json!({ "errcode": "M_UNAUTHORIZED", "error": "who are you?" });
            (reqwest::StatusCode::UNAUTHORIZED, Json(refused))
        });
        let router = router.route("/_matrix/federation/v1/query/profile", profile);
        let (peer, other) = (Peer::start(router).await, Peer::start(Router::new()).await);
        peer.publish(other.keys_until(u64::MAX >> 12));
        let findings = check(&servers[0], peer.name().as_str()).await;
        let bad = bad(&findings);
        assert_eq!(bad.len(), 2, "{findings:#?}");
        assert!(bad[0].contains("keys"), "{findings:#?}");
        assert!(bad[1].contains("who are you?"), "{findings:#?}");
    })
    .await;
}

#[tokio::test]
async fn it_is_listed_which_servers_are_not_reached_and_they_are_tried_again_on_demand() {
    federated(2, async |servers| {
        let (one, other) = (&servers[0], servers[1].name().to_owned());
        let name = <&ServerName>::try_from(other.as_str()).unwrap();
        assert!(!one.federation().retry(name).await);
        let user = ruma::user_id!("@a:b");
        let ask = async |server: &TestServer| {
            let remote = server.engine().outside().remote().unwrap();
            remote
                .query_profile(name, user, None)
                .await
                .unwrap_err()
                .to_string()
        };
        servers[1].stop().await;
        ask(&servers[0]).await;
        servers[1].start_again().await;
        assert!(ask(&servers[0]).await.contains("left alone"));
        let listed = servers[0].federation().destinations_status().await.unwrap();
        assert_eq!((listed.len(), listed[0].failures), (1, 1));
        assert_eq!(listed[0].server_name, other);
        assert!(listed[0].retry_at > listed[0].failing_since);
        assert!(servers[0].federation().retry(name).await);
        assert!(!ask(&servers[0]).await.contains("left alone"));
        let listed = servers[0].federation().destinations_status().await.unwrap();
        assert_eq!((listed[0].failures, listed[0].failing_since), (0, None));
        assert!(listed[0].last_success_at.is_some());
    })
    .await;
}

#[tokio::test]
async fn what_a_server_that_is_gone_has_missed_is_listed_until_it_has_it() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create_public(&alice).await;
        join_by(&bob, &room_id, &servers[0]).await;
        let other = servers[1].name().to_owned();
        servers[1].stop().await;
        let said = say(&alice, &room_id, "unheard").await;
        let status = async |servers: &[TestServer]| {
            let listed = servers[0].federation().destinations_status().await.unwrap();
            listed
                .into_iter()
                .find(|status| status.server_name == other)
        };
        let listed = async |servers: &[TestServer], fits: fn(&DestinationStatus) -> bool| {
            let until = async {
                while !status(servers).await.as_ref().is_some_and(fits) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), until)
                .await
                .expect("it is listed in time");
        };
        listed(servers, |status| {
            status.failures > 0
                && status.retry_at > status.failing_since
                && status.last_error.is_some()
                && status.last_success_at.is_some()
                && status.rooms_behind == 1
        })
        .await;
        servers[1].start_again().await;
        reach(&servers[0], &other).await;
        hear(&bob.at(&servers[1]), &room_id, &said).await;
        listed(servers, |status| {
            (status.failures, status.rooms_behind, status.waiting) == (0, 0, 0)
        })
        .await;
    })
    .await;
}
