//! Application services: whom they speak for, and what is theirs alone.

use parley_conformance::{Client, TestOptions, TestServer, on_each_engine_with};
use parley_engine::settings::{AppserviceRegistration, RateLimit, RegistrationMode};
use serde_json::{Value, json};

const REGISTER: &str = "/_matrix/client/v3/register";
const LOGIN: &str = "/_matrix/client/v3/login";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

fn registration(id: &str, prefix: &str) -> AppserviceRegistration {
    let yaml = format!(
        "id: {id}\nurl: null\nas_token: {id}-as\nhs_token: {id}-hs\nsender_localpart: {prefix}bot\n\
         rate_limited: false\nnamespaces:\n  users:\n    - {{ exclusive: true, regex: '@{prefix}.*' }}\n  \
         aliases:\n    - {{ exclusive: true, regex: '#{prefix}.*' }}\n"
    );
    AppserviceRegistration::parse(&yaml).unwrap()
}

fn options() -> TestOptions {
    let mut options = TestOptions::default();
    options.engine.appservices = vec![registration("irc", "_irc_"), registration("xmpp", "_xmpp_")];
    options
}

fn bridge(server: &TestServer) -> Client {
    server.client().with_token("irc-as")
}

async fn register(client: &Client, name: &str) -> parley_conformance::Answer {
    let body = json!({ "type": "m.login.application_service", "username": name });
    client.post(REGISTER, body).await
}

#[tokio::test]
async fn a_bridge_makes_users_without_a_password_and_speaks_for_them() {
    on_each_engine_with(options, async |server| {
        let bridge = bridge(server);
        let body = json!({
            "type": "m.login.application_service", "username": "_irc_alice", "inhibit_login": true,
        });
        let answer = bridge.post(REGISTER, body).await.ok();
        assert_eq!(answer, json!({ "user_id": "@_irc_alice:parley.test" }));
        let as_alice = format!("{WHOAMI}?user_id=@_irc_alice%3Aparley.test");
        let answer = bridge.get(&as_alice).await.ok();
        assert_eq!(answer["user_id"], "@_irc_alice:parley.test");
        assert_eq!(answer["device_id"], Value::Null);
        let answer = bridge.get(WHOAMI).await.ok();
        assert_eq!(answer["user_id"], "@_irc_bot:parley.test");
        let path = "/_matrix/client/v3/createRoom?user_id=@_irc_alice:parley.test";
        let room = bridge
            .post(path, json!({ "preset": "public_chat" }))
            .await
            .ok();
        let room = room["room_id"].as_str().unwrap();
        let path = format!(
            "/_matrix/client/v3/rooms/{room}/send/m.room.message/1?user_id=@_irc_alice:parley.test"
        );
        let hello = json!({ "msgtype": "m.text", "body": "hello" });
        let first = bridge.put(&path, hello.clone()).await.ok();
        assert_eq!(bridge.put(&path, hello).await.ok(), first);
    })
    .await;
}

#[tokio::test]
async fn the_same_transaction_of_two_users_is_two_events() {
    on_each_engine_with(options, async |server| {
        let bridge = bridge(server);
        register(&bridge, "_irc_alice").await.ok();
        let path = "/_matrix/client/v3/createRoom";
        let room = bridge
            .post(path, json!({ "preset": "public_chat" }))
            .await
            .ok();
        let room = room["room_id"].as_str().unwrap();
        let path = format!("/_matrix/client/v3/rooms/{room}/join?user_id=@_irc_alice:parley.test");
        bridge.post(&path, json!({})).await.ok();
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/1");
        let hello = json!({ "msgtype": "m.text", "body": "hello" });
        let bots = bridge.put(&path, hello.clone()).await.ok();
        let alices = bridge
            .put(&format!("{path}?user_id=@_irc_alice:parley.test"), hello)
            .await
            .ok();
        assert_ne!(bots, alices);
    })
    .await;
}

#[tokio::test]
async fn a_bridge_speaks_for_nobody_else() {
    on_each_engine_with(options, async |server| {
        server.register("alice").await;
        let bridge = bridge(server);
        for user in [
            "@alice:parley.test",
            "@_xmpp_bot:parley.test",
            "@_irc_a:other.test",
            "@_irc_nobody:parley.test",
        ] {
            let answer = bridge.get(&format!("{WHOAMI}?user_id={user}")).await;
            answer.is_refused(403, "M_FORBIDDEN");
        }
        let answer = bridge.get(&format!("{WHOAMI}?user_id=alice")).await;
        answer.is_refused(400, "M_INVALID_PARAM");
        let answer = bridge.get(&format!("{WHOAMI}?device_id=NONE")).await;
        answer.is_refused(400, "M_UNKNOWN_DEVICE");
        let answer = server.client().with_token("irc-hs").get(WHOAMI).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_bridge_is_bound_by_locks_and_suspensions_of_its_users() {
    on_each_engine_with(options, async |server| {
        let bridge = bridge(server);
        register(&bridge, "_irc_alice").await.ok();
        let user_id = ruma::user_id!("@_irc_alice:parley.test");
        let as_alice = format!("{WHOAMI}?user_id={user_id}");
        let accounts = server.engine().accounts();
        accounts.set_locked(user_id, true).await.unwrap();
        bridge.get(&as_alice).await.is_refused(401, "M_USER_LOCKED");
        accounts.set_locked(user_id, false).await.unwrap();
        accounts.set_suspended(user_id, true).await.unwrap();
        let path = format!("/_matrix/client/v3/createRoom?user_id={user_id}");
        bridge
            .post(&path, json!({}))
            .await
            .is_refused(403, "M_USER_SUSPENDED");
        accounts.deactivate(user_id, false).await.unwrap();
        bridge
            .get(&as_alice)
            .await
            .is_refused(403, "M_USER_DEACTIVATED");
    })
    .await;
}

#[tokio::test]
async fn names_of_a_bridge_are_for_no_one_else() {
    on_each_engine_with(options, async |server| {
        let client = server.client();
        let body = |name: &str| {
            json!({
                "username": name,
                "password": "correct horse",
                "auth": { "type": "m.login.dummy" },
            })
        };
        for name in ["_irc_mallory", "_IRC_mallory", "_irc_bot"] {
            let answer = client.post(REGISTER, body(name)).await;
            answer.is_refused(400, "M_EXCLUSIVE");
            let path = format!("/_matrix/client/v3/register/available?username={name}");
            client.get(&path).await.is_refused(400, "M_EXCLUSIVE");
        }
        let bridge = bridge(server);
        for name in ["alice", "_xmpp_alice"] {
            register(&bridge, name).await.is_refused(400, "M_EXCLUSIVE");
        }
        register(&bridge, "_irc_alice").await.ok();
        register(&bridge, "_irc_alice")
            .await
            .is_refused(400, "M_USER_IN_USE");
        let answer = bridge
            .post(REGISTER, json!({ "type": "m.login.application_service" }))
            .await;
        answer.is_refused(400, "M_MISSING_PARAM");
    })
    .await;
}

#[tokio::test]
async fn aliases_of_a_bridge_are_for_no_one_else() {
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let answer = alice
            .post(
                "/_matrix/client/v3/createRoom",
                json!({ "room_alias_name": "_irc_x" }),
            )
            .await;
        answer.is_refused(400, "M_EXCLUSIVE");
        let room = alice
            .post("/_matrix/client/v3/createRoom", json!({}))
            .await
            .ok();
        let path = "/_matrix/client/v3/directory/room/%23_irc_x:parley.test";
        let answer = alice.put(path, json!({ "room_id": room["room_id"] })).await;
        answer.is_refused(400, "M_EXCLUSIVE");
        let bridge = bridge(server);
        let body = json!({ "room_alias_name": "_irc_x" });
        bridge
            .post("/_matrix/client/v3/createRoom", body)
            .await
            .ok();
        alice
            .delete(path, json!({}))
            .await
            .is_refused(400, "M_EXCLUSIVE");
        let body = json!({ "room_alias_name": "mine" });
        let answer = bridge.post("/_matrix/client/v3/createRoom", body).await;
        answer.is_refused(400, "M_EXCLUSIVE");
        bridge.delete(path, json!({})).await.ok();
    })
    .await;
}

fn by_appservice(user: &str) -> Value {
    json!({
        "type": "m.login.application_service",
        "identifier": { "type": "m.id.user", "user": user },
    })
}

#[tokio::test]
async fn a_bridge_logs_its_users_in_and_speaks_for_their_devices() {
    on_each_engine_with(options, async |server| {
        let bridge = bridge(server);
        let flows = bridge.get(LOGIN).await.ok()["flows"].clone();
        let offered = json!({ "type": "m.login.application_service" });
        assert!(flows.as_array().unwrap().contains(&offered));
        let body = json!({
            "type": "m.login.application_service", "username": "_irc_alice", "inhibit_login": true,
        });
        bridge.post(REGISTER, body).await.ok();
        let login = bridge.post(LOGIN, by_appservice("_irc_alice")).await.ok();
        let device = login["device_id"].as_str().unwrap();
        let path = format!("{WHOAMI}?user_id=@_irc_alice:parley.test&device_id={device}");
        assert_eq!(bridge.get(&path).await.ok()["device_id"], device);
        let mut alice = server.client();
        alice.take_login(&login);
        assert_eq!(alice.get(WHOAMI).await.ok()["device_id"], device);
    })
    .await;
}

#[tokio::test]
async fn a_bridge_logs_nobody_else_in() {
    on_each_engine_with(options, async |server| {
        server.register("alice").await;
        let bridge = bridge(server);
        let refused = async |user: &str| bridge.post(LOGIN, by_appservice(user)).await;
        refused("alice").await.is_refused(400, "M_EXCLUSIVE");
        refused("_xmpp_bot").await.is_refused(400, "M_EXCLUSIVE");
        refused("_irc_nobody").await.is_refused(403, "M_FORBIDDEN");
        for (token, code) in [
            (None, "M_MISSING_TOKEN"),
            (Some("guess"), "M_UNKNOWN_TOKEN"),
        ] {
            let mut client = server.client();
            client.token = token.map(ToOwned::to_owned);
            let answer = client.post(LOGIN, by_appservice("_irc_bot")).await;
            answer.is_refused(401, code);
            register(&client, "_irc_alice").await.is_refused(401, code);
        }
    })
    .await;
}

#[tokio::test]
async fn a_bridge_makes_and_removes_devices_without_a_password() {
    on_each_engine_with(options, async |server| {
        let bridge = bridge(server);
        let device = "/_matrix/client/v3/devices/BRIDGE";
        let named = json!({ "display_name": "Bridge" });
        assert_eq!(bridge.put(device, named.clone()).await.status, 201);
        assert_eq!(bridge.put(device, named).await.status, 200);
        assert_eq!(bridge.get(device).await.ok()["display_name"], "Bridge");
        bridge.delete(device, json!({})).await.ok();
        bridge.get(device).await.is_refused(404, "M_NOT_FOUND");
        bridge.put(device, json!({})).await;
        let all = "/_matrix/client/v3/delete_devices";
        bridge
            .post(all, json!({ "devices": ["BRIDGE"] }))
            .await
            .ok();
        let answer = bridge
            .put("/_matrix/client/v3/devices/nul%01", json!({}))
            .await;
        answer.is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn a_bridge_that_is_not_limited_is_not_limited() {
    let limited = || {
        let mut options = options();
        options.engine.rate_limits.enabled = true;
        options.engine.rate_limits.room_creation = RateLimit::new(0.001, 1);
        options.engine.registration.mode = RegistrationMode::Closed;
        options
    };
    on_each_engine_with(limited, async |server| {
        let bridge = bridge(server);
        register(&bridge, "_irc_alice").await.ok();
        for _ in 0..3 {
            let path = "/_matrix/client/v3/createRoom?user_id=@_irc_alice:parley.test";
            bridge.post(path, json!({})).await.ok();
        }
    })
    .await;
}

#[tokio::test]
async fn a_bridge_says_when_something_was_sent_and_nobody_else_does() {
    on_each_engine_with(options, async |server| {
        let bridge = bridge(server);
        let alice = server.register("alice").await;
        let path = "/_matrix/client/v3/createRoom";
        let plan = json!({ "preset": "public_chat" });
        let room = bridge.post(path, plan).await.ok();
        let room = room["room_id"].as_str().unwrap();
        let base = format!("/_matrix/client/v3/rooms/{room}");
        alice.post(&format!("{base}/join"), json!({})).await.ok();
        let time = async |answer: Value| {
            let id = answer["event_id"].as_str().unwrap();
            let event = alice.get(&format!("{base}/event/{id}")).await.ok();
            event["origin_server_ts"].as_i64().unwrap()
        };
        let hello = json!({ "msgtype": "m.text", "body": "hello" });
        let path = format!("{base}/send/m.room.message/1?ts=1234");
        let said = bridge.put(&path, hello.clone()).await.ok();
        assert_eq!(time(said.clone()).await, 1234);
        let path = format!("{base}/state/m.room.topic/?ts=0");
        let set = bridge.put(&path, json!({ "topic": "x" })).await.ok();
        assert_eq!(time(set).await, 0);
        let path = format!("{base}/send/m.room.redaction/1?ts=77");
        let redacts = json!({ "redacts": said["event_id"] });
        let redaction = bridge.put(&path, redacts).await.ok();
        assert_eq!(time(redaction).await, 77);
        for time in ["-1", "soon", "1.5"] {
            let path = format!("{base}/send/m.room.message/2?ts={time}");
            let answer = bridge.put(&path, hello.clone()).await;
            answer.is_refused(400, "M_INVALID_PARAM");
        }
        let path = format!("{base}/send/m.room.message/3?ts=1234");
        let said = alice.put(&path, hello).await.ok();
        assert!(time(said).await > 1_000_000_000_000);
    })
    .await;
}
