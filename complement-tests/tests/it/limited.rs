//! That everything that writes is limited.

use std::collections::BTreeSet;

use parley_conformance::{
    Specified, TestOptions, on_each_engine, on_each_engine_with, specified, specified_of,
};
use parley_engine::settings::{RateLimit, RateLimitSettings};
use reqwest::Method;
use serde_json::{Value, json};

use crate::rooms::{create_public, join, quoted, say};

/// `limited`: requests that write or cost much, as their user may make them once: method, path, body. `otherwise`: those
/// that are not limited so, and why: method, path, reason. Those that are limited by address others test. `{room}`,
/// `{event}`, `{user}`, `{device}` and `{other}` stand for ids.
const REQUESTS: &str = include_str!("limited.json");

/// A part of [`REQUESTS`].
fn listed(part: &str) -> Vec<(Method, String, Value)> {
    let all: Value = serde_json::from_str(REQUESTS).unwrap();
    let listed: Vec<(String, String, Value)> = serde_json::from_value(all[part].clone()).unwrap();
    let with_method = |(method, path, rest): (String, String, Value)| {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        (method, format!("/_matrix/client/{path}"), rest)
    };
    listed.into_iter().map(with_method).collect()
}

fn options() -> TestOptions {
    let one = RateLimit::new(0.001, 1);
    let many = RateLimit::new(1_000.0, 1_000);
    let mut options = TestOptions::default();
    options.engine.rate_limits = RateLimitSettings {
        enabled: true,
        login: one,
        login_failures: one,
        // Users are registered and rooms are joined to have something to ask for.
        registration: many,
        messages: one,
        room_messages: many,
        invites: one,
        received_invites: many,
        joins: one,
        room_creation: one,
        reports: one,
        writes: one,
        ephemeral: one,
        delayed_events: one,
        searches: one,
        history: one,
        federation: many,
        federation_addresses: many,
    };
    options
}

#[tokio::test]
async fn what_writes_or_costs_much_is_limited() {
    on_each_engine_with(options, async |server| {
        let owner = server.register("owner").await;
        let room_id = create_public(&owner).await;
        let event = say(&owner, &room_id, "said").await;
        for (number, (method, path, body)) in listed("limited").into_iter().enumerate() {
            let user = server.register(&format!("user{number}")).await;
            if !path.contains("join") && !path.contains("knock") {
                join(&user, &room_id).await.ok();
            }
            let filled = |text: &str, filling: fn(&str) -> String| {
                text.replace("{room}", &filling(&room_id))
                    .replace("{event}", &filling(&event))
                    .replace("{user}", &filling(&user.user_id))
                    .replace("{device}", &filling(&user.device_id))
                    .replace("{other}", &filling(&owner.user_id))
            };
            let path = filled(&path, quoted);
            let body = (!body.is_null()).then(|| filled(&body.to_string(), str::to_owned));
            let ask = async || user.send(method.clone(), &path, body.clone()).await;
            let first = ask().await;
            assert_ne!(first.status, 429, "{method} {path}: {}", first.body);
            assert_ne!(first.body["errcode"], UNKNOWN, "{method} {path}");
            let second = ask().await;
            assert_eq!(second.status, 429, "{method} {path}: {}", second.body);
        }
    })
    .await;
}

/// What is said of a path or a method that isn't there.
const UNKNOWN: &str = "M_UNRECOGNIZED";

/// The operations of what is listed; all of them have to be in the specification, or else begin with `unstable`.
fn operations(part: &str) -> BTreeSet<Specified> {
    let of = |(method, path, _): (Method, String, Value)| {
        let operation = specified_of(&method, &path);
        assert!(
            operation.is_some() || path.starts_with("/_matrix/client/unstable/"),
            "{method} {path} is in no specification"
        );
        operation
    };
    listed(part).into_iter().filter_map(of).collect()
}

#[tokio::test]
async fn every_operation_that_writes_or_that_is_said_to_be_limited_is_limited_or_has_a_reason() {
    let specified = specified();
    if specified.is_empty() {
        // The specification isn't there.
        return;
    }
    let limited = operations("limited");
    let otherwise = operations("otherwise");
    let both: Vec<_> = limited.intersection(&otherwise).collect();
    assert!(both.is_empty(), "{both:?}");
    on_each_engine(async |server| {
        let nobody = server.client();
        let mut here = BTreeSet::new();
        for operation in &specified {
            if operation.method == "GET" && !operation.may_be_limited {
                continue;
            }
            let method = Method::from_bytes(operation.method.as_bytes()).unwrap();
            let path = operation.path.replace("{}", "x");
            let body = (method != Method::GET).then(|| json!({}).to_string());
            let answer = nobody.send(method, &path, body).await;
            if answer.body["errcode"] != UNKNOWN {
                here.insert(operation.clone());
            }
        }
        let named: BTreeSet<_> = limited.union(&otherwise).cloned().collect();
        let missing: Vec<_> = here.difference(&named).collect();
        assert!(
            missing.is_empty(),
            "neither limited nor named: {missing:#?}"
        );
        let gone: Vec<_> = otherwise.difference(&here).collect();
        assert!(gone.is_empty(), "named, but not there: {gone:#?}");
    })
    .await;
}
