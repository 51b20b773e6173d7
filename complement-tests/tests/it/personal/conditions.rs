//! Conditions of push rules: <https://spec.matrix.org/v1.19/client-server-api/#conditions-1>

use parley_conformance::{Client, on_each_engine};
use serde_json::{Value, json};

use super::{joined, room_of_two, sync};
use crate::rooms::{BASE, create_public, join, quoted, room_path, set_state};

/// Whether an event highlights for somebody who has no rule but one with this condition.
async fn highlights(
    client: &Client,
    room_id: &str,
    condition: Value,
    send: impl AsyncFn(),
) -> bool {
    let path = format!("{BASE}/pushrules/global/override/test");
    let actions = json!(["notify", { "set_tweak": "highlight" }]);
    let rule = json!({ "actions": actions, "conditions": [condition] });
    client.put(&path, rule).await.ok();
    let before = highlighted(client, room_id).await;
    send().await;
    highlighted(client, room_id).await > before
}

async fn highlighted(client: &Client, room_id: &str) -> u64 {
    let told = sync(client, None, "").await;
    let counts = &joined(&told, room_id)["unread_notifications"];
    counts["highlight_count"].as_u64().unwrap()
}

async fn send(client: &Client, room_id: &str, content: Value) {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = room_path(room_id, &format!("send/org.example/{number}"));
    client.put(&path, content).await.ok();
}

/// The conditions, what is sent, and whether it fits.
async fn check(cases: &[(Value, Value, bool)]) {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        for (condition, content, expected) in cases {
            let sending = async || send(&alice, &room_id, content.clone()).await;
            let fits = highlights(&bob, &room_id, condition.clone(), sending).await;
            assert_eq!(fits, *expected, "{condition} {content}");
        }
    })
    .await;
}

fn matches(key: &str, pattern: &str) -> Value {
    json!({ "kind": "event_match", "key": key, "pattern": pattern })
}

#[tokio::test]
async fn event_match_matches_whole_values_but_words_of_the_body() {
    let topic = |pattern| matches("content.topic", pattern);
    let body = |pattern| matches("content.body", pattern);
    check(&[
        (topic("lunc?*"), json!({ "topic": "Lunch plans" }), true),
        (topic("lunc?*"), json!({ "topic": "LUNCH" }), true),
        (topic("lunc?*"), json!({ "topic": " lunch" }), false),
        (topic("lunc?*"), json!({ "topic": "lunc" }), false),
        (topic("*"), json!({ "topic": null }), false),
        (topic("*"), json!({ "topic": 1 }), false),
        (topic("*"), json!({}), false),
        (body("ex*ple"), json!({ "body": "An example event." }), true),
        (body("ex*ple"), json!({ "body": "exple" }), true),
        (
            body("ex*ple"),
            json!({ "body": "An exciting triple-whammy" }),
            true,
        ),
        (body("cake"), json!({ "body": "pancakes" }), false),
        (body("cake"), json!({ "body": "cake_" }), false),
        (body("cake"), json!({ "body": "Cake!" }), true),
        (matches(r"content.a\.b", "c"), json!({ "a.b": "c" }), true),
        (
            matches(r"content.a\.b", "c"),
            json!({ "a": { "b": "c" } }),
            false,
        ),
        (
            matches("content.a.b", "c"),
            json!({ "a": { "b": "c" } }),
            true,
        ),
        (matches("type", "org.*"), json!({}), true),
    ])
    .await;
}

#[tokio::test]
async fn event_property_is_compares_exactly() {
    let is = |value: Value| json!({ "kind": "event_property_is", "key": r"content.m\.federate", "value": value });
    check(&[
        (is(json!(true)), json!({ "m.federate": true }), true),
        (is(json!(true)), json!({ "m.federate": "true" }), false),
        (is(json!(true)), json!({ "m.federate": 1 }), false),
        (is(json!(1)), json!({ "m.federate": 1 }), true),
        (is(json!("a")), json!({ "m.federate": "A" }), false),
        (is(json!(null)), json!({ "m.federate": null }), true),
        (is(json!(null)), json!({}), false),
    ])
    .await;
}

#[tokio::test]
async fn event_property_contains_looks_into_lists() {
    let contains = |value: Value| json!({ "kind": "event_property_contains", "key": "content.list", "value": value });
    check(&[
        (contains(json!("a")), json!({ "list": ["b", "a"] }), true),
        (contains(json!("a")), json!({ "list": ["ab"] }), false),
        (contains(json!("a")), json!({ "list": "a" }), false),
        (contains(json!(1)), json!({ "list": [1] }), true),
        (contains(json!(1)), json!({ "list": ["1"] }), false),
        (contains(json!(null)), json!({ "list": [null] }), true),
        (contains(json!("a")), json!({}), false),
    ])
    .await;
}

#[tokio::test]
async fn an_unknown_condition_and_one_that_is_incomplete_match_nothing() {
    check(&[
        (json!({ "kind": "org.example.always" }), json!({}), false),
        (
            json!({ "kind": "room_member_count", "is": "2" }),
            json!({}),
            true,
        ),
        (
            json!({ "kind": "room_member_count", "is": "==2" }),
            json!({}),
            true,
        ),
        (
            json!({ "kind": "room_member_count", "is": "<2" }),
            json!({}),
            false,
        ),
        (
            json!({ "kind": "room_member_count", "is": "<=2" }),
            json!({}),
            true,
        ),
        (
            json!({ "kind": "room_member_count", "is": ">2" }),
            json!({}),
            false,
        ),
        (
            json!({ "kind": "room_member_count", "is": ">=2" }),
            json!({}),
            true,
        ),
    ])
    .await;
}

#[tokio::test]
async fn the_whole_room_is_notified_only_by_who_may() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let room_id = create_public(&alice).await;
        for client in [&bob, &carol] {
            join(client, &room_id).await.ok();
        }
        let room = json!({ "msgtype": "m.text", "body": "all", "m.mentions": { "room": true } });
        send(&carol, &room_id, room.clone()).await;
        assert_eq!(highlighted(&bob, &room_id).await, 0);
        send(&alice, &room_id, room.clone()).await;
        assert_eq!(highlighted(&bob, &room_id).await, 1);
        let levels = json!({
            "users": { &carol.user_id: 10 },
            "notifications": { "room": 10 },
        });
        let set = set_state(&alice, &room_id, "m.room.power_levels", "", levels).await;
        set.ok();
        send(&carol, &room_id, room).await;
        assert_eq!(highlighted(&bob, &room_id).await, 2);
    })
    .await;
}

#[tokio::test]
async fn rooms_and_senders_have_rules_and_the_first_of_all_that_match_decides() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let count = async || {
            let told = sync(&bob, None, "").await;
            let counts = &joined(&told, &room_id)["unread_notifications"];
            counts["notification_count"].as_u64().unwrap()
        };
        let message = json!({ "msgtype": "m.text", "body": "tea time" });
        let say = async |id: &str| {
            let path = room_path(&room_id, &format!("send/m.room.message/{id}"));
            alice.put(&path, message.clone()).await.ok();
        };
        let put = async |path: String, body: Value| {
            let path = format!("{BASE}/pushrules/global/{path}");
            bob.put(&path, body).await.ok();
        };
        put(
            format!("sender/{}", quoted(&alice.user_id)),
            json!({ "actions": [] }),
        )
        .await;
        say("quiet").await;
        assert_eq!(count().await, 0);
        // Rooms come before senders, words before rooms, conditions before words.
        put(
            format!("room/{}", quoted(&room_id)),
            json!({ "actions": ["notify"] }),
        )
        .await;
        say("room").await;
        assert_eq!(count().await, 1);
        put(
            "content/tea".to_owned(),
            json!({ "pattern": "tea", "actions": ["dont_notify"] }),
        )
        .await;
        say("word").await;
        assert_eq!(count().await, 1);
        put(
            "content/time".to_owned(),
            json!({ "pattern": "time", "actions": ["notify"] }),
        )
        .await;
        say("newer word").await;
        assert_eq!(count().await, 2);
        put(
            "override/all".to_owned(),
            json!({ "conditions": [], "actions": [] }),
        )
        .await;
        say("all").await;
        assert_eq!(count().await, 2);
        put(
            "override/all/enabled".to_owned(),
            json!({ "enabled": false }),
        )
        .await;
        say("again").await;
        assert_eq!(count().await, 3);
    })
    .await;
}

#[tokio::test]
async fn a_dot_in_a_property_is_written_with_a_backslash() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let quiet = format!("{BASE}/pushrules/global/override/.m.rule.master/enabled");
        let condition = json!({
            "kind": "event_property_is",
            "key": "content.m\\.relates_to.rel_type",
            "value": "com.example",
        });
        let tweak = json!({ "set_tweak": "highlight" });
        let rule = json!({ "actions": ["notify", tweak], "conditions": [condition] });
        bob.put(&quiet, json!({ "enabled": false })).await.ok();
        let path = format!("{BASE}/pushrules/global/override/dotted");
        bob.put(&path, rule).await.ok();
        for (rel_type, expected) in [("com.example.other", 0), ("com.example", 1)] {
            let relation = json!({ "rel_type": rel_type, "event_id": "$unknown" });
            let content = json!({ "m.relates_to": relation });
            let path = room_path(&room_id, &format!("send/com.example/{rel_type}"));
            alice.put(&path, content).await.ok();
            let told = sync(&bob, None, "").await;
            let counts = &joined(&told, &room_id)["unread_notifications"];
            assert_eq!(counts["highlight_count"], expected, "{rel_type}");
        }
    })
    .await;
}
