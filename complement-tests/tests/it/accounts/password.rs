//! Changing the password.

use parley_conformance::{Answer, Client, PASSWORD, on_each_engine};
use serde_json::{Value, json};

const CHANGE: &str = "/_matrix/client/v3/account/password";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";
const NEW: &str = "a new and better password";

async fn change(client: &Client, body: Value) -> Answer {
    let challenge = client.post(CHANGE, body.clone()).await;
    assert_eq!(challenge.status, 401, "{challenge:?}");
    let mut body = body;
    body["auth"] = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": client.user_id },
        "password": PASSWORD,
        "session": challenge.body["session"],
    });
    client.post(CHANGE, body).await
}

async fn log_in(client: &Client, password: &str) -> Answer {
    let body = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": client.user_id },
        "password": password,
    });
    client.post("/_matrix/client/v3/login", body).await
}

#[tokio::test]
async fn a_new_password_replaces_the_old_and_logs_other_devices_out() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let other = alice.log_in_again().await;
        let answer = change(&alice, json!({ "new_password": NEW })).await;
        assert_eq!(answer.ok(), json!({}));
        log_in(&alice, PASSWORD)
            .await
            .is_refused(403, "M_FORBIDDEN");
        log_in(&alice, NEW).await.ok();
        alice.get(WHOAMI).await.ok();
        other.get(WHOAMI).await.is_refused(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn other_devices_stay_if_that_is_wanted() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let other = alice.log_in_again().await;
        let body = json!({ "new_password": NEW, "logout_devices": false });
        change(&alice, body).await.ok();
        other.get(WHOAMI).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_new_password_has_to_be_long_enough() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let answer = alice.post(CHANGE, json!({ "new_password": "short" })).await;
        answer.is_refused(400, "M_WEAK_PASSWORD");
        let answer = alice.post(CHANGE, json!({})).await;
        answer.is_refused(400, "M_BAD_JSON");
    })
    .await;
}

#[tokio::test]
async fn a_password_is_not_changed_without_a_token() {
    on_each_engine(async |server| {
        let answer = server
            .client()
            .post(CHANGE, json!({ "new_password": NEW }))
            .await;
        answer.is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_password_has_a_greatest_length_and_one_beyond_is_no_ones() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let long = "x".repeat(100_000);
        let answer = alice.post(CHANGE, json!({ "new_password": long })).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        log_in(&alice, &long).await.is_refused(403, "M_FORBIDDEN");
    })
    .await;
}
