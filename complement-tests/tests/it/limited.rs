//! That everything that writes is limited.

use parley_conformance::{TestOptions, on_each_engine_with};
use parley_engine::settings::{RateLimit, RateLimitSettings};
use reqwest::Method;
use serde_json::Value;

use crate::rooms::{create_public, join, quoted, say};

/// Requests that write or cost much, as their user may make them once: method, path, body. Not among them are those that
/// log out and those of what this server doesn't do, which cost nothing; those that administrators make; and those whose
/// limit is by address, which others test. `{room}`, `{event}`, `{user}`, `{device}` and `{other}` stand for ids.
const REQUESTS: &str = include_str!("limited.json");

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
        let requests: Vec<(String, String, Value)> = serde_json::from_str(REQUESTS).unwrap();
        for (number, (method, path, body)) in requests.into_iter().enumerate() {
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
            let path = format!("/_matrix/client/{}", filled(&path, quoted));
            let body = filled(&body.to_string(), str::to_owned);
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let ask = async || user.send(method.clone(), &path, Some(body.clone())).await;
            let first = ask().await;
            assert_ne!(first.status, 429, "{method} {path}: {}", first.body);
            let second = ask().await;
            assert_eq!(second.status, 429, "{method} {path}: {}", second.body);
        }
    })
    .await;
}
