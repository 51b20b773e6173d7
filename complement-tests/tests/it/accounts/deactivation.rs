//! The end of an account.

use parley_conformance::{Client, PASSWORD, TestServer, on_each_engine};
use serde_json::{Value, json};

const DEACTIVATE: &str = "/_matrix/client/v3/account/deactivate";

fn proof(client: &Client, password: &str, session: &Value) -> Value {
    json!({ "auth": {
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": client.user_id },
        "password": password,
        "session": session,
    } })
}

#[tokio::test]
async fn a_deactivated_account_is_gone_for_good() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let other = alice.log_in_again().await;
        let challenge = alice.post(DEACTIVATE, json!({})).await;
        assert_eq!(challenge.status, 401);
        let session = &challenge.body["session"];
        let answer = alice
            .post(DEACTIVATE, proof(&alice, "wrong", session))
            .await;
        answer.is_refused(401, "M_FORBIDDEN");
        let answer = alice
            .post(DEACTIVATE, proof(&alice, PASSWORD, session))
            .await;
        assert_eq!(answer.ok()["id_server_unbind_result"], "success");

        for client in [&alice, &other] {
            let answer = client.get("/_matrix/client/v3/account/whoami").await;
            answer.is_refused(401, "M_UNKNOWN_TOKEN");
        }
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": "alice" },
            "password": PASSWORD,
        });
        let answer = alice.post("/_matrix/client/v3/login", body).await;
        answer.is_refused(403, "M_FORBIDDEN");
        let path = "/_matrix/client/v3/register/available?username=alice";
        let answer = alice.get(path).await;
        answer.is_refused(400, "M_USER_IN_USE");
    })
    .await;
}

#[tokio::test]
async fn an_account_is_not_deactivated_without_a_token() {
    on_each_engine(async |server| {
        let answer = server.client().post(DEACTIVATE, json!({})).await;
        answer.is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

async fn erase(server: &TestServer, client: &Client) {
    let user_id = ruma::UserId::parse(&client.user_id).unwrap();
    let accounts = server.engine().accounts();
    accounts.deactivate(&user_id, true).await.unwrap();
}

async fn bodies(client: &Client, room: &str) -> Vec<Value> {
    let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=f&limit=100");
    let chunk = client.get(&path).await.ok()["chunk"].clone();
    let messages = chunk.as_array().unwrap().iter();
    messages
        .filter(|event| event["type"] == "m.room.message")
        .map(|event| event["content"]["body"].clone())
        .collect()
}

async fn send(client: &Client, room: &str, body: &str) -> String {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{body}");
    let sent = client
        .put(&path, json!({ "msgtype": "m.text", "body": body }))
        .await
        .ok();
    sent["event_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn who_comes_after_an_erasure_is_not_shown_what_was_written() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let body = json!({ "preset": "public_chat" });
        let room = bob.post("/_matrix/client/v3/createRoom", body).await.ok();
        let room = room["room_id"].as_str().unwrap();
        let join = format!("/_matrix/client/v3/rooms/{room}/join");
        alice.post(&join, json!({})).await.ok();
        let event = send(&alice, room, "secret").await;
        send(&bob, room, "hello").await;
        erase(server, &alice).await;
        carol.post(&join, json!({})).await.ok();

        assert_eq!(bodies(&bob, room).await, ["secret", "hello"]);
        assert_eq!(bodies(&carol, room).await, [Value::Null, json!("hello")]);
        server.restart().await;
        for path in ["event", "context"] {
            let path = format!("/_matrix/client/v3/rooms/{room}/{path}/{event}");
            let answer = carol.get(&path).await.ok();
            assert!(!answer.to_string().contains("secret"), "{answer}");
            let answer = bob.get(&path).await.ok();
            assert!(answer.to_string().contains("secret"), "{answer}");
        }
        let synced = carol.get("/_matrix/client/v3/sync").await.ok();
        assert!(!synced.to_string().contains("secret"), "{synced}");
        assert!(synced.to_string().contains(&event), "{synced}");
        let synced = bob.get("/_matrix/client/v3/sync").await.ok();
        assert!(synced.to_string().contains("secret"), "{synced}");
    })
    .await;
}

#[tokio::test]
async fn who_is_not_erased_stays_readable() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let body = json!({ "preset": "public_chat" });
        let room = alice.post("/_matrix/client/v3/createRoom", body).await.ok();
        let room = room["room_id"].as_str().unwrap();
        send(&alice, room, "hello").await;
        let user_id = ruma::UserId::parse(&alice.user_id).unwrap();
        let accounts = server.engine().accounts();
        accounts.deactivate(&user_id, false).await.unwrap();
        let join = format!("/_matrix/client/v3/rooms/{room}/join");
        bob.post(&join, json!({})).await.ok();
        assert_eq!(bodies(&bob, room).await, ["hello"]);
    })
    .await;
}

#[tokio::test]
async fn an_erased_user_has_no_profile() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let profile = format!("/_matrix/client/v3/profile/{}", alice.user_id);
        let name = format!("{profile}/displayname");
        alice
            .put(&name, json!({ "displayname": "Alice" }))
            .await
            .ok();
        erase(server, &alice).await;
        assert_eq!(server.client().get(&profile).await.ok(), json!({}));
    })
    .await;
}
