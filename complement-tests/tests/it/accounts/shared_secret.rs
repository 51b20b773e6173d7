//! Registration by a secret that scripts share with the server.

use std::{sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use parley_conformance::{Answer, Client, TestOptions, on_each_engine, on_each_engine_with};
use parley_engine::{
    clock::ManualClock,
    settings::{RegistrationMode, Secret},
};
use serde_json::{Value, json};
use sha1::Sha1;

const PATH: &str = "/_synapse/admin/v1/register";
const SECRET: &str = "a secret of scripts";

fn options() -> TestOptions {
    let mut options = TestOptions {
        clock: Some(Arc::new(ManualClock::new(1_700_000_000_000))),
        ..TestOptions::default()
    };
    options.engine.registration.mode = RegistrationMode::Closed;
    options.engine.registration.shared_secret = Some(Secret::new(SECRET));
    options
}

async fn nonce(client: &Client) -> String {
    let answer = client.get(PATH).await.ok();
    answer["nonce"].as_str().unwrap().to_owned()
}

fn request(nonce: &str, username: &str, admin: bool) -> Value {
    let admin_word = if admin { "admin" } else { "notadmin" };
    let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{nonce}\0{username}\0some password\0{admin_word}").as_bytes());
    let bytes = mac.finalize().into_bytes();
    let mac: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "nonce": nonce,
        "username": username,
        "password": "some password",
        "admin": admin,
        "mac": mac,
    })
}

async fn register(client: &Client, username: &str, admin: bool) -> Answer {
    let body = request(&nonce(client).await, username, admin);
    client.post(PATH, body).await
}

#[tokio::test]
async fn who_knows_the_secret_registers_though_registration_is_closed() {
    on_each_engine_with(options, async |server| {
        let client = server.client();
        let answer = register(&client, "User-UPPER", false).await.ok();
        assert_eq!(answer["user_id"], "@user-upper:parley.test");
        let user = client.with_token(answer["access_token"].as_str().unwrap());
        let whoami = user.get("/_matrix/client/v3/account/whoami").await.ok();
        assert_eq!(whoami["device_id"], answer["device_id"]);
    })
    .await;
}

#[tokio::test]
async fn only_who_asks_to_be_an_administrator_becomes_one() {
    on_each_engine_with(options, async |server| {
        let client = server.client();
        register(&client, "admin", true).await.ok();
        register(&client, "user", false).await.ok();
        let accounts = server.engine().accounts().list(0, 10).await.unwrap();
        let admins: Vec<_> = accounts.iter().map(|account| account.admin).collect();
        assert_eq!(admins, [true, false]);
    })
    .await;
}

#[tokio::test]
async fn a_challenge_is_answered_once() {
    on_each_engine_with(options, async |server| {
        let client = server.client();
        let nonce = nonce(&client).await;
        client
            .post(PATH, request(&nonce, "alice", false))
            .await
            .ok();
        let answer = client.post(PATH, request(&nonce, "bob", false)).await;
        answer.is_refused(400, "M_UNKNOWN");
    })
    .await;
}

#[tokio::test]
async fn a_challenge_is_answered_within_a_minute() {
    on_each_engine_with(options, async |server| {
        let client = server.client();
        let nonce = nonce(&client).await;
        server.clock().advance(Duration::from_secs(60));
        let answer = client.post(PATH, request(&nonce, "alice", false)).await;
        answer.is_refused(400, "M_UNKNOWN");
    })
    .await;
}

#[tokio::test]
async fn a_wrong_mac_is_refused() {
    on_each_engine_with(options, async |server| {
        let client = server.client();
        // The MAC of a user is not that of an administrator.
        let mut body = request(&nonce(&client).await, "alice", false);
        body["admin"] = true.into();
        client.post(PATH, body).await.is_refused(403, "M_FORBIDDEN");
        for mac in ["", "zz", "abc", "é"] {
            let mut body = request(&nonce(&client).await, "alice", false);
            body["mac"] = mac.into();
            client.post(PATH, body).await.is_refused(403, "M_FORBIDDEN");
        }
    })
    .await;
}

#[tokio::test]
async fn the_rules_for_names_and_passwords_hold_here_too() {
    on_each_engine_with(options, async |server| {
        let client = server.client();
        let answer = register(&client, "us,er", false).await;
        answer.is_refused(400, "M_INVALID_USERNAME");
        register(&client, "alice", false).await.ok();
        let answer = register(&client, "alice", false).await;
        answer.is_refused(400, "M_USER_IN_USE");
        let answer = client.post(PATH, json!({ "nonce": 1 })).await;
        answer.is_refused(400, "M_BAD_JSON");
    })
    .await;
}

#[tokio::test]
async fn without_a_secret_there_is_no_such_registration() {
    on_each_engine(async |server| {
        let client = server.client();
        client.get(PATH).await.is_refused(400, "M_UNKNOWN");
        let answer = client.post(PATH, request("nonce", "alice", true)).await;
        answer.is_refused(400, "M_UNKNOWN");
    })
    .await;
}
