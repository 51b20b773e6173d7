//! Requests that are right but for one value: whatever it is, the server doesn't fail.

use parley_conformance::{Client, on_each_engine};
use reqwest::Method;
use serde_json::{Value, json};

use crate::rooms::{create_public, join, say};

/// What is put in the place of each value, one after the other.
fn wrong_values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(9_007_199_254_740_992_u64),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("\0"),
        json!("x".repeat(300)),
        json!("\u{1f600}".repeat(70)),
        json!("@a:b"),
        json!("!a:b"),
        json!("$a"),
        json!("#a:b"),
        json!("' OR 1=1 --"),
        json!("a*?".repeat(150)),
        json!([]),
        json!([null]),
        json!({}),
        json!({ "a": [1] }),
    ]
}

/// All bodies that differ from this one in one value.
fn mutations(body: &Value) -> Vec<Value> {
    let inner: Vec<(String, &Value)> = match body {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), value))
            .collect(),
        Value::Array(items) => (0..)
            .map(|index: usize| index.to_string())
            .zip(items)
            .collect(),
        _ => Vec::new(),
    };
    let mut all = Vec::new();
    for (key, value) in inner {
        let others = wrong_values().into_iter().chain(mutations(value));
        all.extend(others.map(|other| {
            let mut changed = body.clone();
            match &mut changed {
                Value::Array(items) => items[key.parse::<usize>().unwrap()] = other,
                changed => changed[&key] = other,
            }
            changed
        }));
    }
    all
}

/// Requests with all that they may hold: method, path, body. `{room}`, `{event}`, `{user}` and `{device}` stand for ids.
const REQUESTS: &str = include_str!("mutations.json");

/// Sends all mutations of a request. A transaction would be the same if the path were.
async fn send_all(client: &Client, method: &Method, path: &str, body: &Value) {
    for (number, body) in mutations(body).into_iter().enumerate() {
        let path = match path.strip_suffix("/1") {
            Some(path) => format!("{path}/{number}"),
            None => path.to_owned(),
        };
        let answer = client
            .send(method.clone(), &path, Some(body.to_string()))
            .await;
        let status = answer.status.as_u16();
        assert!(status < 500, "{method} {path} with {body}: {}", answer.body);
        assert!(status < 400 || answer.body["errcode"].is_string() || status == 401);
    }
}

#[tokio::test]
async fn no_wrong_value_makes_the_server_fail() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        let other = create_public(&bob).await;
        join(&alice, &other).await.ok();
        let event = say(&alice, &room_id, "said").await;
        let requests = REQUESTS
            .replace("{room}", &room_id)
            .replace("{event}", &event)
            .replace("{user}", &alice.user_id)
            .replace("{device}", &alice.device_id);
        let requests: Vec<(String, String, Value)> = serde_json::from_str(&requests).unwrap();
        for (method, path, body) in requests {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let path = format!("/_matrix/client/v3/{path}");
            send_all(&alice, &method, &path, &body).await;
        }
        // By the rules that came to be of all this.
        say(&bob, &other, "aaa bbb").await;
        alice.get("/_matrix/client/v3/sync").await.ok();
    })
    .await;
}

#[test]
fn each_value_is_mutated_wherever_it_stands() {
    let body = json!({ "a": 1, "b": [{ "c": 2 }] });
    let all = mutations(&body);
    // `a`, `b`, what is in `b`, and `c`.
    assert_eq!(all.len(), 4 * wrong_values().len());
    assert!(all.contains(&json!({ "a": 1, "b": [{ "c": null }] })));
}
