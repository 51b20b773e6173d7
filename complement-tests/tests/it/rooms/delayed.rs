//! Events that are sent later.

use std::{sync::Arc, time::Duration};

use parley_conformance::{
    Answer, Client, TestOptions, TestServer, on_each_engine, on_each_engine_with,
};
use parley_engine::{
    clock::ManualClock,
    settings::{DelayedEventSettings, RateLimit, RateLimitSettings},
};
use serde_json::{Value, json};

use super::{BASE, act, create_public, get_state, join, quoted, room_path, set_state};

const EVENTS: &str = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events";
/// Longer than any test takes.
const LATER: u32 = 600_000;

/// A type that all members may send as state.
const TYPE: &str = "com.example.call";

async fn call_room(alice: &Client) -> String {
    let levels = json!({ "events": { TYPE: 0 } });
    let plan = json!({ "preset": "public_chat", "power_level_content_override": levels });
    super::create(alice, plan).await
}

/// Has a state event sent later.
async fn leave_later(client: &Client, room_id: &str, key: &str, delay: u32) -> Answer {
    let path = format!("state/{TYPE}/{key}?org.matrix.msc4140.delay={delay}");
    client
        .put(&room_path(room_id, &path), json!({ "by": client.user_id }))
        .await
}

/// Has a message sent later.
async fn say_later(client: &Client, room_id: &str, text: &str, delay: u32) -> Answer {
    let path = format!("send/m.room.message/{text}?org.matrix.msc4140.delay={delay}");
    let content = json!({ "msgtype": "m.text", "body": text });
    client.put(&room_path(room_id, &path), content).await
}

fn delay_id(answer: Answer) -> String {
    let answer = answer.ok();
    assert!(answer.get("event_id").is_none(), "{answer}");
    answer["delay_id"].as_str().unwrap().to_owned()
}

async fn scheduled(client: &Client) -> Vec<Value> {
    let answer = client.get(EVENTS).await.ok();
    answer["delayed_events"].as_array().unwrap().clone()
}

async fn manage(client: &Client, delay_id: &str, action: &str) -> Answer {
    let path = format!("{EVENTS}/{delay_id}/{action}");
    client.post(&path, json!({})).await
}

async fn outcome(client: &Client, delay_id: &str) -> Value {
    client.get(&format!("{EVENTS}/{delay_id}")).await.ok()
}

async fn now(client: &Client) -> String {
    let answer = client.get(&format!("{BASE}/sync?timeout=0")).await.ok();
    answer["next_batch"].as_str().unwrap().to_owned()
}

/// Waits until a room has new events that fit, as many as that; all of them.
async fn wait_for(
    client: &Client,
    since: &str,
    room_id: &str,
    count: usize,
    fits: impl Fn(&Value) -> bool,
) -> Vec<Value> {
    let mut since = since.to_owned();
    let mut found = Vec::new();
    while found.len() < count {
        let path = format!("{BASE}/sync?timeout=10000&since={since}");
        let answer = client.get(&path).await.ok();
        let next = answer["next_batch"].as_str().unwrap().to_owned();
        assert!(next != since, "nothing more came than {found:?}");
        since = next;
        let events = answer["rooms"]["join"][room_id]["timeline"]["events"].as_array();
        found.extend(
            events
                .into_iter()
                .flatten()
                .filter(|event| fits(event))
                .cloned(),
        );
    }
    found
}

fn body(event: &Value) -> &str {
    event["content"]["body"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn messages_are_sent_when_they_are_due_and_only_their_sender_learns_that_they_were_late() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let since = now(&bob).await;
        let second = delay_id(say_later(&alice, &room_id, "second", 400).await);
        let first = delay_id(say_later(&alice, &room_id, "first", 200).await);
        let listed = scheduled(&alice).await;
        let ids: Vec<_> = listed.iter().map(|event| &event["delay_id"]).collect();
        assert_eq!(ids, [&json!(first), &json!(second)]);
        assert_eq!(listed[0]["type"], "m.room.message");
        assert_eq!(listed[0]["room_id"], json!(room_id));
        assert_eq!(listed[0]["content"]["body"], "first");
        assert_eq!(
            (&listed[0]["delay"], &listed[0]["delay_ms"]),
            (&json!(200), &json!(200))
        );
        assert_eq!(listed[0]["running_since"], listed[0]["scheduled_at"]);
        assert!(listed[0].get("state_key").is_none());
        assert_eq!(scheduled(&bob).await, Vec::<Value>::new());

        let told = wait_for(&bob, &since, &room_id, 2, |_| true).await;
        assert_eq!((body(&told[0]), body(&told[1])), ("first", "second"));
        let late = "org.matrix.msc4140.delay_id";
        assert!(told[0]["unsigned"].get(late).is_none(), "{}", told[0]);
        let own = super::get_event(&alice, &room_id, told[0]["event_id"].as_str().unwrap());
        let own = own.await.ok();
        assert_eq!(own["unsigned"][late], json!(first));
        assert!(own["unsigned"].get("transaction_id").is_none(), "{own}");
        assert_eq!(scheduled(&alice).await, Vec::<Value>::new());
        let sent = outcome(&alice, &first).await;
        assert_eq!(sent["event_id"], told[0]["event_id"]);
        assert!(sent["finalised_ts"].is_u64() && sent.get("error").is_none());
    })
    .await;
}

#[tokio::test]
async fn what_is_due_while_the_server_is_down_is_sent_in_order_when_it_is_back() {
    let clock = || Arc::new(ManualClock::new(1_700_000_000_000));
    let options = || TestOptions {
        clock: Some(clock()),
        ..TestOptions::default()
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let room_id = call_room(&alice).await;
        let since = now(&alice).await;
        leave_later(&alice, &room_id, "b", 2_000).await.ok();
        leave_later(&alice, &room_id, "a", 1_000).await.ok();
        let last = delay_id(leave_later(&alice, &room_id, "c", LATER).await);
        server.clock().advance(Duration::from_secs(3));
        server.restart().await;
        let told = wait_for(&alice, &since, &room_id, 2, |event| event["type"] == TYPE).await;
        let keys: Vec<_> = told.iter().map(|event| &event["state_key"]).collect();
        assert_eq!(keys, ["a", "b"]);
        let left = scheduled(&alice).await;
        assert_eq!(left.len(), 1);
        assert_eq!(
            (&left[0]["delay_id"], &left[0]["state_key"]),
            (&json!(last), &json!("c"))
        );
    })
    .await;
}

#[tokio::test]
async fn a_repeated_transaction_schedules_once() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let first = delay_id(say_later(&alice, &room_id, "t", LATER).await);
        assert_eq!(
            delay_id(say_later(&alice, &room_id, "t", LATER).await),
            first
        );
        let path = format!("send/m.room.message/t?org.matrix.msc4140.delay={LATER}");
        let path = room_path(&room_id, &path);
        let empty = alice
            .send(reqwest::Method::PUT, &path, None::<String>)
            .await;
        assert_eq!(delay_id(empty), first);
        let other = alice.log_in_again().await;
        assert_ne!(
            delay_id(say_later(&other, &room_id, "t", LATER).await),
            first
        );
        // At once it is another thing to do.
        super::say(&alice, &room_id, "t").await;
        assert_eq!(scheduled(&alice).await.len(), 2);
        manage(&alice, &first, "cancel").await.ok();
        assert_eq!(
            delay_id(say_later(&alice, &room_id, "t", LATER).await),
            first
        );
    })
    .await;
}

#[tokio::test]
async fn whoever_knows_the_name_can_send_cancel_and_restart_an_event() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let nobody = server.client();
        let room_id = call_room(&alice).await;
        let sent = delay_id(leave_later(&alice, &room_id, "sent", LATER).await);
        let cancelled = delay_id(leave_later(&alice, &room_id, "cancelled", LATER).await);
        let restarted = delay_id(leave_later(&alice, &room_id, "restarted", LATER).await);
        get_state(&alice, &room_id, TYPE, "sent")
            .await
            .is_refused(404, "M_NOT_FOUND");

        manage(&nobody, &sent, "send").await.ok();
        let state = get_state(&alice, &room_id, TYPE, "sent").await.ok();
        assert_eq!(state, json!({ "by": alice.user_id }));
        manage(&nobody, &cancelled, "cancel").await.ok();
        let before = outcome(&alice, &restarted).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        manage(&nobody, &restarted, "restart").await.ok();
        let after = outcome(&alice, &restarted).await;
        assert!(after["scheduled_at"].as_i64() > before["scheduled_at"].as_i64());
        assert!(after.get("finalised_ts").is_none());
        let left = scheduled(&alice).await;
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0]["delay_id"], json!(restarted));

        // What is done is done, and can be asked for again.
        for (delay_id, same) in [(&sent, "send"), (&cancelled, "cancel")] {
            for action in ["send", "cancel", "restart"] {
                let answer = manage(&alice, delay_id, action).await;
                match action == same {
                    true => assert_eq!(answer.ok(), json!({})),
                    false => answer.is_refused(409, "M_UNKNOWN"),
                }
            }
        }
        let kept = outcome(&alice, &cancelled).await;
        assert!(kept["finalised_ts"].is_u64());
        assert!(kept.get("event_id").is_none() && kept.get("error").is_none());
        server.restart().await;
        assert_eq!(outcome(&alice, &cancelled).await, kept);
    })
    .await;
}

#[tokio::test]
async fn clients_of_today_name_the_action_in_the_body() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = call_room(&alice).await;
        let event = delay_id(leave_later(&alice, &room_id, "a", LATER).await);
        let path = format!("{EVENTS}/{event}");
        for (body, code) in [
            (json!({}), "M_MISSING_PARAM"),
            (json!({ "action": "jump" }), "M_INVALID_PARAM"),
            (json!({ "action": 1 }), "M_BAD_JSON"),
        ] {
            alice.post(&path, body).await.is_refused(400, code);
        }
        for action in ["restart", "send"] {
            alice.post(&path, json!({ "action": action })).await.ok();
        }
        get_state(&alice, &room_id, TYPE, "a").await.ok();
    })
    .await;
}

#[tokio::test]
async fn the_operation_of_the_present_proposal_schedules_messages_and_state() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = call_room(&alice).await;
        let base = format!(
            "/_matrix/client/unstable/org.matrix.msc4140/rooms/{}/delayed_event",
            quoted(&room_id)
        );
        let put = async |rest: &str, body| alice.put(&format!("{base}/{rest}"), body).await;
        let content = json!({ "body": "late" });
        let message = json!({ "delay_ms": LATER, "content": content });
        let message = delay_id(put("m.room.message/1", message).await);
        let state = json!({ "delay": LATER, "state_key": "k", "content": content });
        let state = delay_id(put(&format!("{TYPE}/1"), state).await);
        assert!(outcome(&alice, &message).await.get("state_key").is_none());
        assert_eq!(outcome(&alice, &state).await["state_key"], "k");
        put("m.room.message/2", json!({ "content": content }))
            .await
            .is_refused(400, "M_INVALID_PARAM");
        put("m.room.message/3", json!({ "delay_ms": 1 }))
            .await
            .is_refused(400, "M_BAD_JSON");
        put("m.room.message/4", json!({ "delay_ms": 1, "content": [] }))
            .await
            .is_refused(400, "M_BAD_JSON");
    })
    .await;
}

#[tokio::test]
async fn state_that_somebody_else_sets_meanwhile_is_not_overwritten() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = call_room(&alice).await;
        join(&bob, &room_id).await.ok();
        let one = delay_id(leave_later(&alice, &room_id, "one", LATER).await);
        let other = delay_id(leave_later(&alice, &room_id, "other", LATER).await);
        let own = delay_id(leave_later(&bob, &room_id, "one", LATER).await);
        set_state(&bob, &room_id, TYPE, "one", json!({ "by": "bob" }))
            .await
            .ok();
        // Her own comes after his, and doesn't bring it back.
        set_state(&alice, &room_id, TYPE, "one", json!({ "by": "alice" }))
            .await
            .ok();
        let left = scheduled(&alice).await;
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0]["delay_id"], json!(other));
        let cancelled = outcome(&alice, &one).await;
        assert!(cancelled["finalised_ts"].is_u64() && cancelled.get("event_id").is_none());
        manage(&alice, &one, "send")
            .await
            .is_refused(409, "M_UNKNOWN");
        manage(&bob, &own, "restart")
            .await
            .is_refused(409, "M_UNKNOWN");
        // One's own change is no reason.
        set_state(&alice, &room_id, TYPE, "other", json!({ "by": "alice" }))
            .await
            .ok();
        manage(&alice, &other, "send").await.ok();
    })
    .await;
}

#[tokio::test]
async fn an_event_that_may_not_be_sent_when_it_is_due_is_kept_with_the_reason() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        // Whether he may is seen when it is due.
        let later = delay_id(leave_later(&bob, &room_id, "b", LATER).await);
        manage(&bob, &later, "send")
            .await
            .is_refused(403, "M_FORBIDDEN");
        assert_eq!(scheduled(&bob).await.len(), 1, "it stays scheduled");

        let soon = delay_id(say_later(&bob, &room_id, "bye", 300).await);
        act(&alice, &room_id, "kick", &bob).await.ok();
        let since = now(&alice).await;
        say_later(&alice, &room_id, "after", 600).await.ok();
        wait_for(&alice, &since, &room_id, 1, |_| true).await;
        let failed = outcome(&bob, &soon).await;
        assert_eq!(failed["error"]["errcode"], "M_FORBIDDEN", "{failed}");
        assert!(failed["error"]["error"].is_string());
        assert!(failed.get("event_id").is_none() && failed["finalised_ts"].is_u64());
        manage(&bob, &soon, "cancel").await.ok();
    })
    .await;
}

#[tokio::test]
async fn nobody_sees_or_schedules_events_of_others_or_where_they_are_not() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let nobody = server.client();
        let room_id = create_public(&alice).await;
        say_later(&bob, &room_id, "a", LATER)
            .await
            .is_refused(403, "M_FORBIDDEN");
        say_later(&nobody, &room_id, "a", LATER)
            .await
            .is_refused(401, "M_MISSING_TOKEN");
        let event = delay_id(say_later(&alice, &room_id, "a", LATER).await);
        let path = format!("{EVENTS}/{event}");
        bob.get(&path).await.is_refused(404, "M_NOT_FOUND");
        nobody.get(&path).await.is_refused(401, "M_MISSING_TOKEN");
        nobody.get(EVENTS).await.is_refused(401, "M_MISSING_TOKEN");
        alice
            .get(&format!("{EVENTS}/no"))
            .await
            .is_refused(404, "M_NOT_FOUND");
        for action in ["send", "cancel", "restart"] {
            manage(&nobody, "no", action)
                .await
                .is_refused(404, "M_NOT_FOUND");
        }
        manage(&nobody, &event, "jump")
            .await
            .is_refused(404, "M_UNRECOGNIZED");
        let stale = nobody.with_token("stale");
        manage(&stale, &event, "cancel")
            .await
            .is_refused(401, "M_UNKNOWN_TOKEN");
        assert_eq!(scheduled(&alice).await.len(), 1);
    })
    .await;
}

fn little() -> TestOptions {
    let mut options = TestOptions::default();
    options.engine.delayed_events = DelayedEventSettings {
        max_delay: Duration::from_secs(60),
        max_scheduled: 2,
    };
    options
}

#[tokio::test]
async fn there_are_limits_to_how_long_and_how_many() {
    on_each_engine_with(little, async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        say_later(&alice, &room_id, "a", 60_001)
            .await
            .is_refused(403, "M_FORBIDDEN");
        say_later(&alice, &room_id, "a", 0)
            .await
            .is_refused(400, "M_INVALID_PARAM");
        let path = room_path(
            &room_id,
            "send/m.room.message/a?org.matrix.msc4140.delay=soon",
        );
        alice
            .put(&path, json!({}))
            .await
            .is_refused(400, "M_INVALID_PARAM");
        let first = delay_id(say_later(&alice, &room_id, "a", 60_000).await);
        say_later(&alice, &room_id, "b", 30_000).await.ok();
        let refused = say_later(&alice, &room_id, "c", 60_000).await;
        refused.is_refused(429, "M_LIMIT_EXCEEDED");
        let wait: u64 = refused.headers["retry-after"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!((20..=30).contains(&wait), "{wait}");
        manage(&alice, &first, "cancel").await.ok();
        say_later(&alice, &room_id, "c", 60_000).await.ok();
        let capabilities = alice.get(&format!("{BASE}/capabilities")).await.ok();
        assert_eq!(
            capabilities["capabilities"]["org.matrix.msc4140.delayed_events"],
            json!({ "max_delay_ms": 60_000, "max_scheduled": 2 })
        );
        let large = json!({ "body": "x".repeat(70_000) });
        let path = room_path(&room_id, "send/m.room.message/l?org.matrix.msc4140.delay=9");
        alice.put(&path, large).await.is_refused(413, "M_TOO_LARGE");
    })
    .await;
}

async fn advertised(server: &TestServer) -> Value {
    let versions = server.client().get("/_matrix/client/versions").await.ok();
    versions["unstable_features"]["org.matrix.msc4140"].clone()
}

#[tokio::test]
async fn a_server_may_be_set_to_send_nothing_later() {
    on_each_engine(async |server| {
        assert_eq!(advertised(server).await, true);
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        server.options_mut().engine.delayed_events.max_scheduled = 0;
        server.restart().await;
        assert_eq!(advertised(server).await, false);
        say_later(&alice, &room_id, "a", 1)
            .await
            .is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn managing_is_limited_by_user_and_by_address() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rate_limits = RateLimitSettings {
            enabled: true,
            delayed_events: RateLimit::new(0.001, 3),
            ..RateLimitSettings::default()
        };
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        for client in [&alice, &server.client()] {
            for _ in 0..3 {
                manage(client, "no", "cancel")
                    .await
                    .is_refused(404, "M_NOT_FOUND");
            }
            manage(client, "no", "cancel")
                .await
                .is_refused(429, "M_LIMIT_EXCEEDED");
        }
        alice.get(EVENTS).await.is_refused(429, "M_LIMIT_EXCEEDED");
    })
    .await;
}

#[tokio::test]
async fn what_is_due_while_the_room_has_its_fill_is_sent_when_it_takes_more() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rate_limits = RateLimitSettings {
            enabled: true,
            room_messages: RateLimit::new(2.0, 4),
            ..RateLimitSettings::default()
        };
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let since = now(&bob).await;
        // Others write as much as the room takes.
        for count in 0.. {
            let path = format!("send/m.room.message/{count}");
            let content = json!({ "msgtype": "m.text", "body": "noise" });
            let answer = bob.put(&room_path(&room_id, &path), content).await;
            if answer.status == 429 {
                break;
            }
        }
        let later = delay_id(say_later(&alice, &room_id, "later", 1).await);
        let is_later = |event: &Value| body(event) == "later";
        wait_for(&bob, &since, &room_id, 1, is_later).await;
        assert!(outcome(&alice, &later).await["error"].is_null());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_on_several_nodes_is_sent_once() {
    on_each_engine(async |first| {
        let Some(second) = first.second_node().await else {
            return;
        };
        let alice = first.register("alice").await;
        let room_id = create_public(&alice).await;
        let since = now(&alice).await;
        let there = alice.at(&second);
        let mut ids = Vec::new();
        for number in 0..20 {
            let node = if number % 2 == 0 { &alice } else { &there };
            let answer = say_later(node, &room_id, &format!("m{number}"), 800).await;
            ids.push(delay_id(answer));
        }
        // Some are sent by hand at the same time.
        for (number, id) in ids.iter().enumerate().take(6) {
            let node = if number % 3 == 0 { &alice } else { &there };
            manage(node, id, "send").await.ok();
        }
        let told = wait_for(&alice, &since, &room_id, 20, |_| true).await;
        let mut texts: Vec<_> = told.iter().map(|event| body(event).to_owned()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!((told.len(), texts.len()), (20, 20));
        assert_eq!(scheduled(&there).await, Vec::<Value>::new());
        for id in &ids {
            assert!(outcome(&there, id).await["event_id"].is_string());
        }
    })
    .await;
}

#[tokio::test]
async fn a_deactivated_user_has_nothing_scheduled_any_more() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let event = delay_id(say_later(&alice, &room_id, "a", LATER).await);
        let user_id = ruma::UserId::parse(&alice.user_id).unwrap();
        let accounts = server.engine().accounts();
        accounts.deactivate(&user_id, false).await.unwrap();
        manage(&server.client(), &event, "send")
            .await
            .is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn what_is_sent_later_arrives_as_it_was_given() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = call_room(&alice).await;
        let content = json!({ "body": "Grüße \u{1f44b} \u{0} \u{202e}", "ключ": ["ä", 1, null] });
        let key = "Schlüssel \u{1f511}";
        let path = format!(
            "state/{TYPE}/{}?org.matrix.msc4140.delay={LATER}",
            quoted(key)
        );
        let path = room_path(&room_id, &path);
        let id = delay_id(alice.put(&path, content.clone()).await);
        assert_eq!(scheduled(&alice).await[0]["content"], content);
        manage(&alice, &id, "send").await.ok();
        let told = get_state(&alice, &room_id, TYPE, key).await.ok();
        assert_eq!(told, content);
    })
    .await;
}

#[tokio::test]
async fn what_is_scheduled_at_once_gets_past_no_limit() {
    on_each_engine_with(little, async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let names: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        let asked = names
            .iter()
            .map(|name| say_later(&alice, &room_id, name, 60_000));
        let answers = futures::future::join_all(asked).await;
        let made = answers.iter().filter(|answer| answer.status == 200);
        assert_eq!(made.count(), 2);
        assert_eq!(scheduled(&alice).await.len(), 2);
    })
    .await;
}
