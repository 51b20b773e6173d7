//! One device logs another in.

use std::{sync::Arc, time::Duration};

use parley_conformance::{Client, PASSWORD, TestOptions, on_each_engine, on_each_engine_with};
use parley_engine::clock::ManualClock;
use serde_json::{Value, json};

const GET_TOKEN: &str = "/_matrix/client/v1/login/get_token";
const LOGIN: &str = "/_matrix/client/v3/login";

fn proof(client: &Client, session: &Value) -> Value {
    json!({ "auth": {
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": client.user_id },
        "password": PASSWORD,
        "session": session,
    } })
}

async fn token(client: &Client) -> String {
    let challenge = client.post(GET_TOKEN, json!({})).await;
    assert_eq!(challenge.status, 401);
    let session = &challenge.body["session"];
    let made = client.post(GET_TOKEN, proof(client, session)).await.ok();
    assert_eq!(made["expires_in_ms"], 120_000);
    made["login_token"].as_str().unwrap().to_owned()
}

fn by_token(token: &str) -> Value {
    json!({ "type": "m.login.token", "token": token, "initial_device_display_name": "TV" })
}

#[tokio::test]
async fn a_token_logs_another_device_in_once() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let token = token(&alice).await;
        server.restart().await;
        let mut other = server.client();
        let answer = other.post(LOGIN, by_token(&token)).await.ok();
        other.take_login(&answer);
        assert_eq!(other.user_id, alice.user_id);
        assert_ne!(other.device_id, alice.device_id);
        other.get("/_matrix/client/v3/account/whoami").await.ok();
        let again = server.client().post(LOGIN, by_token(&token)).await;
        again.is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn every_token_is_asked_for_with_the_password() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        token(&alice).await;
        let challenge = alice.post(GET_TOKEN, json!({})).await;
        assert_eq!(challenge.status, 401);
        assert_eq!(
            challenge.body["flows"][0]["stages"],
            json!(["m.login.password"])
        );
        let mut wrong = proof(&alice, &challenge.body["session"]);
        wrong["auth"]["password"] = "wrong".into();
        let answer = alice.post(GET_TOKEN, wrong).await;
        answer.is_refused(401, "M_FORBIDDEN");
        let stranger = server.client().post(GET_TOKEN, json!({})).await;
        stranger.is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_token_ends_soon() {
    let options = || TestOptions {
        clock: Some(Arc::new(ManualClock::new(1_700_000_000_000))),
        ..TestOptions::default()
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let token = token(&alice).await;
        server.clock().advance(Duration::from_secs(120));
        let late = server.client().post(LOGIN, by_token(&token)).await;
        late.is_refused(403, "M_FORBIDDEN");
        let guess = server.client().post(LOGIN, by_token("pll_guess")).await;
        guess.is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn no_token_logs_in_who_is_locked_or_gone() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let (first, second) = (token(&alice).await, token(&alice).await);
        let user_id = ruma::UserId::parse(&alice.user_id).unwrap();
        let accounts = server.engine().accounts();
        accounts.set_locked(&user_id, true).await.unwrap();
        let locked = server.client().post(LOGIN, by_token(&first)).await;
        locked.is_refused(401, "M_USER_LOCKED");
        accounts.deactivate(&user_id, false).await.unwrap();
        let gone = server.client().post(LOGIN, by_token(&second)).await;
        gone.is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

async fn offers_tokens(client: &Client) -> (bool, Value) {
    let flows = client.get(LOGIN).await.ok()["flows"].clone();
    let offered = json!({ "type": "m.login.token", "get_login_token": true });
    let capabilities = client.get("/_matrix/client/v3/capabilities").await.ok();
    let capability = capabilities["capabilities"]["m.get_login_token"]["enabled"].clone();
    (flows.as_array().unwrap().contains(&offered), capability)
}

#[tokio::test]
async fn it_is_told_whether_there_are_such_tokens() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        assert_eq!(offers_tokens(&alice).await, (true, json!(true)));
    })
    .await;
    let off = || {
        let mut options = TestOptions::default();
        options.engine.login.by_token = false;
        options
    };
    on_each_engine_with(off, async |server| {
        let alice = server.register("alice").await;
        assert_eq!(offers_tokens(&alice).await, (false, json!(false)));
        let answer = alice.post(GET_TOKEN, json!({})).await;
        answer.is_refused(400, "M_FORBIDDEN");
    })
    .await;
}
