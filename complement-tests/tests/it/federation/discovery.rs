//! From names to servers.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode},
    response::Redirect,
    routing::get,
};
use parley_conformance::{Peer, TestNames, TestOptions, TestServer, federated_with};
use parley_engine::clock::ManualClock;
use parley_federation::{Ports, Service};
use ruma::{ServerName, user_id};
use serde_json::json;

/// What a server is told of a profile, or why it isn't.
async fn ask(server: &TestServer, name: &str) -> Result<String, String> {
    let remote = server.engine().outside().remote().unwrap();
    let name = <&ServerName>::try_from(name).unwrap();
    let profile = remote.query_profile(name, user_id!("@a:b"), None).await;
    let profile = profile.map_err(|error| error.to_string())?;
    Ok(profile["displayname"].as_str().unwrap().to_owned())
}

/// A web server for all domains of a test.
async fn web(port: u16) -> Peer {
    let tell = get(async move |headers: HeaderMap| {
        let host = headers["host"]
            .to_str()
            .unwrap()
            .split(':')
            .next()
            .unwrap()
            .to_owned();
        let server = match host.as_str() {
            "literal.test" => format!("127.0.0.1:{port}"),
            "port.test" => format!("delegated.test:{port}"),
            "plain.test" => "service.test".to_owned(),
            "inner.test" => "10.1.2.3:1".to_owned(),
            "moved.test" => return Err(Redirect::temporary("/moved")),
            "loop.test" => return Err(Redirect::temporary("/.well-known/matrix/server")),
            _ => return Ok(json!({ "m.server": "" }).to_string()),
        };
        Ok(json!({ "m.server": server }).to_string())
    });
    let moved =
        get(async move || json!({ "m.server": format!("delegated.test:{port}") }).to_string());
    let router = Router::new()
        .route("/.well-known/matrix/server", tell)
        .route("/moved", moved);
    Peer::start_as(router, NAMES).await
}

const NAMES: &[&str] = &[
    "127.0.0.1",
    "literal.test",
    "port.test",
    "plain.test",
    "inner.test",
    "moved.test",
    "loop.test",
    "delegated.test",
    "service.test",
    "old.test",
    "usual.test",
];

#[tokio::test]
async fn a_server_is_found_as_the_specification_says() {
    let server = Peer::start_as(teller(), NAMES).await;
    let port = server.name().port().unwrap();
    let web = web(port).await;
    let options = |_| with_names(web.name().port().unwrap(), port);
    federated_with(1, options, async |servers| {
        for (name, asked_as) in [
            (server.name().as_str(), server.name().to_string()),
            (
                &*format!("delegated.test:{port}"),
                format!("delegated.test:{port}"),
            ),
            ("literal.test", format!("127.0.0.1:{port}")),
            ("port.test", format!("delegated.test:{port}")),
            ("moved.test", format!("delegated.test:{port}")),
            // By SRV records: of the delegated name, and of a name that delegates to nobody.
            ("plain.test", "service.test".to_owned()),
            ("old.test", "old.test".to_owned()),
            // By nothing, at the usual port.
            ("usual.test", "usual.test".to_owned()),
            ("loop.test", "loop.test".to_owned()),
        ] {
            assert_eq!(ask(&servers[0], name).await, Ok(asked_as), "{name}");
        }
    })
    .await;
}

/// A server that tells as what it was asked.
fn teller() -> Router {
    let tell = get(async |headers: HeaderMap| {
        let host = headers["host"].to_str().unwrap().to_owned();
        Json(json!({ "displayname": host }))
    });
    Router::new().route("/_matrix/federation/v1/query/profile", tell)
}

fn with_names(https: u16, matrix: u16) -> TestOptions {
    let mut names = TestNames::default();
    for name in NAMES {
        names
            .addresses
            .insert((*name).to_owned(), vec![Ipv4Addr::LOCALHOST.into()]);
    }
    names
        .addresses
        .insert("machine.test".to_owned(), vec![Ipv4Addr::LOCALHOST.into()]);
    names
        .addresses
        .insert("private.test".to_owned(), vec![[10, 1, 2, 3].into()]);
    let service = |priority, port| Service {
        priority,
        weight: 1,
        port,
        target: "machine.test".to_owned(),
    };
    // The first isn't there.
    let services = vec![service(2, matrix), service(1, 1)];
    names
        .services
        .insert("_matrix-fed._tcp.service.test".to_owned(), services);
    names
        .services
        .insert("_matrix._tcp.old.test".to_owned(), vec![service(1, matrix)]);
    let mut options = TestOptions::default();
    options.federation.names = Some(Arc::new(names));
    options.federation.ports = Ports { https, matrix };
    options
}

#[tokio::test]
async fn nothing_is_sent_to_addresses_that_are_not_public_and_not_permitted() {
    let options = |_| with_names(1, 1);
    federated_with(1, options, async |servers| {
        for name in [
            "10.1.2.3:1",
            "10.1.2.3",
            "private.test:1",
            "private.test",
            "[::1]:1",
        ] {
            let refused = ask(&servers[0], name).await.unwrap_err();
            assert!(
                refused.contains("may not be connected to"),
                "{name}: {refused}"
            );
        }
        let unknown = ask(&servers[0], "nowhere.test").await.unwrap_err();
        assert!(unknown.contains("has no address"), "{unknown}");
    })
    .await;
    let web = web(1).await;
    let options = |_| with_names(web.name().port().unwrap(), 1);
    federated_with(1, options, async |servers| {
        let refused = ask(&servers[0], "inner.test").await.unwrap_err();
        assert!(refused.contains("may not be connected to"), "{refused}");
    })
    .await;
}

#[tokio::test]
async fn a_certificate_of_another_name_or_authority_is_not_trusted() {
    let server = Peer::start(teller()).await;
    let port = server.name().port().unwrap();
    let options = |index| {
        let mut options = with_names(1, port);
        if index == 1 {
            options.federation.authorities.clear();
        }
        options
    };
    federated_with(2, options, async |servers| {
        ask(&servers[0], server.name().as_str()).await.unwrap();
        let refused = ask(&servers[0], "usual.test").await.unwrap_err();
        assert!(refused.contains("certificate"), "{refused}");
        let refused = ask(&servers[1], server.name().as_str()).await.unwrap_err();
        assert!(refused.contains("certificate"), "{refused}");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone_for_a_while_until_it_speaks() {
    let server = Peer::start(teller()).await;
    let name = server.name().to_string();
    let options = |_| TestOptions::default();
    federated_with(1, options, async |servers| {
        ask(&servers[0], "127.0.0.1:1").await.unwrap_err();
        let again = ask(&servers[0], "127.0.0.1:1").await.unwrap_err();
        assert!(again.contains("left alone"), "{again}");
        servers[0].restart().await;
        let again = ask(&servers[0], "127.0.0.1:1").await.unwrap_err();
        assert!(again.contains("left alone"), "{again}");
        assert!(ask(&servers[0], &name).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn what_a_domain_says_holds_as_long_as_it_says_and_that_it_says_nothing_longer_each_time() {
    let server = Peer::start_as(teller(), NAMES).await;
    let port = server.name().port().unwrap();
    let (asked, fails) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (counting, failing) = (Arc::clone(&asked), Arc::clone(&fails));
    let tell = get(async move || {
        counting.fetch_add(1, Ordering::SeqCst);
        let file = json!({ "m.server": format!("127.0.0.1:{port}") }).to_string();
        match failing.load(Ordering::SeqCst) {
            true => Err(StatusCode::INTERNAL_SERVER_ERROR),
            false => Ok(([("cache-control", "max-age=3600")], file)),
        }
    });
    let web = Router::new().route("/.well-known/matrix/server", tell);
    let web = Peer::start_as(web, NAMES).await;
    let options = |_| TestOptions {
        clock: Some(Arc::new(ManualClock::new(1_800_000_000_000))),
        ..with_names(web.name().port().unwrap(), port)
    };
    federated_with(1, options, async |servers| {
        asked.store(0, Ordering::SeqCst);
        fails.store(false, Ordering::SeqCst);
        // After so many minutes, how often the domain was asked in all, and as whom the server is then.
        let after = async |minutes: u64, count, host: &str| {
            let clock = servers[0].clock();
            clock.advance(Duration::from_secs(60 * minutes));
            assert_eq!(ask(&servers[0], "literal.test").await.unwrap(), host);
            assert_eq!(asked.load(Ordering::SeqCst), count, "{minutes}");
        };
        let (delegated, usual) = (format!("127.0.0.1:{port}"), "literal.test");
        after(0, 1, &delegated).await;
        after(59, 1, &delegated).await;
        after(1, 2, &delegated).await;
        fails.store(true, Ordering::SeqCst);
        after(59, 2, &delegated).await;
        after(1, 3, usual).await;
        for (pause, count) in [(2, 4), (4, 5), (8, 6), (16, 7), (32, 8), (60, 9), (60, 10)] {
            after(pause - 1, count - 1, usual).await;
            after(1, count, usual).await;
        }
        fails.store(false, Ordering::SeqCst);
        after(59, 10, usual).await;
        after(1, 11, &delegated).await;
        after(59, 11, &delegated).await;
        fails.store(true, Ordering::SeqCst);
        after(1, 12, usual).await;
        // It begins anew.
        after(1, 12, usual).await;
        after(1, 13, usual).await;
    })
    .await;
}
