//! Access tokens that expire, and how the next is got.

use std::{sync::Arc, time::Duration};

use parley_conformance::{Answer, Client, PASSWORD, TestOptions, TestServer, on_each_engine_with};
use parley_engine::clock::ManualClock;
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(60 * 60);
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

fn options() -> TestOptions {
    TestOptions {
        clock: Some(Arc::new(ManualClock::new(1_700_000_000_000))),
        ..TestOptions::default()
    }
}

async fn log_in(server: &TestServer) -> Value {
    server.register("alice").await;
    let body = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": "alice" },
        "password": PASSWORD,
        "refresh_token": true,
    });
    let answer = server.client().post("/_matrix/client/v3/login", body).await;
    answer.ok()
}

async fn refresh(client: &Client, token: &Value) -> Answer {
    let body = json!({ "refresh_token": token });
    client.post("/_matrix/client/v3/refresh", body).await
}

async fn use_token(client: &Client, token: &Value) -> Answer {
    let client = client.with_token(token.as_str().unwrap());
    client.get(WHOAMI).await
}

#[tokio::test]
async fn an_expired_access_token_is_a_soft_logout_and_can_be_refreshed() {
    on_each_engine_with(options, async |server| {
        let client = server.client();
        let login = log_in(server).await;
        assert_eq!(login["expires_in_ms"], 3_600_000);
        use_token(&client, &login["access_token"]).await.ok();

        server.clock().advance(HOUR);
        let answer = use_token(&client, &login["access_token"]).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
        assert_eq!(answer.body["soft_logout"], true);

        let pair = refresh(&client, &login["refresh_token"]).await.ok();
        assert_eq!(pair["expires_in_ms"], 3_600_000);
        let whoami = use_token(&client, &pair["access_token"]).await.ok();
        assert_eq!(whoami["device_id"], login["device_id"]);
    })
    .await;
}

#[tokio::test]
async fn a_refresh_token_serves_again_until_what_it_gave_is_used() {
    on_each_engine_with(options, async |server| {
        let client = server.client();
        let login = log_in(server).await;
        let lost = refresh(&client, &login["refresh_token"]).await.ok();
        let pair = refresh(&client, &login["refresh_token"]).await.ok();
        // The pair whose answer was lost never was.
        let answer = use_token(&client, &lost["access_token"]).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
        // The old access token ends when the new one is used.
        use_token(&client, &login["access_token"]).await.ok();
        use_token(&client, &pair["access_token"]).await.ok();
        let answer = use_token(&client, &login["access_token"]).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
        let answer = refresh(&client, &login["refresh_token"]).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
        assert_eq!(answer.body["soft_logout"], true);
    })
    .await;
}

#[tokio::test]
async fn the_next_refresh_ends_the_refresh_token_before() {
    on_each_engine_with(options, async |server| {
        let client = server.client();
        let login = log_in(server).await;
        let second = refresh(&client, &login["refresh_token"]).await.ok();
        let third = refresh(&client, &second["refresh_token"]).await.ok();
        let answer = refresh(&client, &login["refresh_token"]).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
        use_token(&client, &third["access_token"]).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_refresh_token_that_was_not_used_for_long_has_expired() {
    on_each_engine_with(options, async |server| {
        let login = log_in(server).await;
        server.clock().advance(HOUR * 24 * 90);
        let answer = refresh(&server.client(), &login["refresh_token"]).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_session_ends_in_time_however_often_it_is_refreshed() {
    let options = || {
        let mut options = options();
        options.engine.tokens.session_lifetime = Some(HOUR + HOUR / 2);
        options
    };
    on_each_engine_with(options, async |server| {
        let client = server.client();
        let login = log_in(server).await;
        server.clock().advance(HOUR);
        let pair = refresh(&client, &login["refresh_token"]).await.ok();
        assert_eq!(pair["expires_in_ms"], 1_800_000);
        server.clock().advance(HOUR / 2);
        let answer = refresh(&client, &pair["refresh_token"]).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_logout_ends_the_refresh_token_too() {
    on_each_engine_with(options, async |server| {
        let client = server.client();
        let login = log_in(server).await;
        let alice = client.with_token(login["access_token"].as_str().unwrap());
        alice
            .post("/_matrix/client/v3/logout", json!({}))
            .await
            .ok();
        let answer = refresh(&client, &login["refresh_token"]).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn an_access_token_is_no_refresh_token() {
    on_each_engine_with(options, async |server| {
        let client = server.client();
        let login = log_in(server).await;
        let answer = refresh(&client, &login["access_token"]).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
        let answer = use_token(&client, &login["refresh_token"]).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
        let body = json!({});
        let answer = client.post("/_matrix/client/v3/refresh", body).await;
        answer.is_refused(400, "M_BAD_JSON");
    })
    .await;
}

#[tokio::test]
async fn a_transaction_is_the_same_after_a_refresh_and_another_after_a_new_login() {
    on_each_engine_with(options, async |server| {
        let client = server.client();
        let login = log_in(server).await;
        let first = client.with_token(login["access_token"].as_str().unwrap());
        let room = first
            .post("/_matrix/client/v3/createRoom", json!({}))
            .await
            .ok();
        let room = room["room_id"].as_str().unwrap();
        let path = format!("/_matrix/client/v3/rooms/{room}/send/com.example/1");
        let sent = first.put(&path, json!({})).await.ok();
        let pair = refresh(&client, &login["refresh_token"]).await.ok();
        let second = client.with_token(pair["access_token"].as_str().unwrap());
        assert_eq!(second.put(&path, json!({})).await.ok(), sent);
        let body = |device: Value| {
            json!({
                "type": "m.login.password",
                "identifier": { "type": "m.id.user", "user": "alice" },
                "password": PASSWORD,
                "device_id": device,
            })
        };
        // A login to the same device is that device, one to a new device isn't.
        for (device, same) in [(login["device_id"].clone(), true), (json!("OTHER"), false)] {
            let login = client
                .post("/_matrix/client/v3/login", body(device))
                .await
                .ok();
            let again = client.with_token(login["access_token"].as_str().unwrap());
            assert_eq!(again.put(&path, json!({})).await.ok() == sent, same);
        }
    })
    .await;
}
