//! The list of a user's devices.

use parley_conformance::{Answer, Client, PASSWORD, on_each_engine};
use reqwest::Method;
use serde_json::{Value, json};

const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

fn path(client: &Client) -> String {
    format!("/_matrix/client/v3/devices/{}", client.device_id)
}

/// Asks to do it, then proves by a password who asks.
async fn prove(
    client: &Client,
    method: Method,
    path: &str,
    mut body: Value,
    user: &str,
    password: &str,
) -> Answer {
    let challenge = client
        .send(method.clone(), path, Some(body.to_string()))
        .await;
    assert_eq!(challenge.status, 401, "{challenge:?}");
    body["auth"] = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": user },
        "password": password,
        "session": challenge.body["session"],
    });
    client.send(method, path, Some(body.to_string())).await
}

#[tokio::test]
async fn a_device_is_listed_with_its_name() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let name = json!({ "display_name": "Telephone" });
        assert_eq!(alice.put(&path(&alice), name).await.ok(), json!({}));
        let device = alice.get(&path(&alice)).await.ok();
        assert_eq!(device["device_id"], alice.device_id);
        assert_eq!(device["display_name"], "Telephone");
        let list = alice.get("/_matrix/client/v3/devices").await.ok();
        assert_eq!(list["devices"].as_array().unwrap().len(), 1);
        assert_eq!(list["devices"][0]["device_id"], device["device_id"]);
        assert_eq!(list["devices"][0]["display_name"], "Telephone");
    })
    .await;
}

#[tokio::test]
async fn a_device_without_a_name_has_none_rather_than_null() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let device = alice.get(&path(&alice)).await.ok();
        assert!(!device.as_object().unwrap().contains_key("display_name"));
    })
    .await;
}

#[tokio::test]
async fn a_device_of_someone_else_is_not_found() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let refused = bob.get(&path(&alice)).await;
        refused.is_refused(404, "M_NOT_FOUND");
        let refused = bob.put(&path(&alice), json!({ "display_name": "x" })).await;
        refused.is_refused(404, "M_NOT_FOUND");
        let refused = bob.put(&path(&alice), json!({})).await;
        refused.is_refused(404, "M_NOT_FOUND");
        let refused = bob.get("/_matrix/client/v3/devices/%00").await;
        refused.is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn a_name_that_cannot_be_stored_is_refused() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for name in ["nul\0", &"x".repeat(513)] {
            let body = json!({ "display_name": name });
            let answer = alice.put(&path(&alice), body).await;
            answer.is_refused(400, "M_INVALID_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn deleting_a_device_takes_the_password() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let other = alice.log_in_again().await;
        let no_body = None::<String>;
        let challenge = alice.send(Method::DELETE, &path(&other), no_body).await;
        assert_eq!(challenge.status, 401);
        assert_eq!(
            challenge.body["flows"],
            json!([{ "stages": ["m.login.password"] }])
        );
        assert!(challenge.body["params"].is_object());
        assert!(challenge.body["session"].is_string());

        let delete = async |password| {
            let user = &alice.user_id;
            prove(
                &alice,
                Method::DELETE,
                &path(&other),
                json!({}),
                user,
                password,
            )
            .await
        };
        let refused = delete("wrong").await;
        refused.is_refused(401, "M_FORBIDDEN");
        for key in ["flows", "params", "session"] {
            assert!(!refused.body[key].is_null(), "{key} is missing");
        }
        other.get(WHOAMI).await.ok();

        assert_eq!(delete(PASSWORD).await.ok(), json!({}));
        other.get(WHOAMI).await.is_refused(401, "M_UNKNOWN_TOKEN");
        let answer = alice.get(&path(&other)).await;
        answer.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn another_users_password_proves_nothing() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let other = alice.log_in_again().await;
        let bob = server.register("bob").await;
        let user = &bob.user_id;
        let refused = prove(
            &alice,
            Method::DELETE,
            &path(&other),
            json!({}),
            user,
            PASSWORD,
        )
        .await;
        refused.is_refused(403, "M_FORBIDDEN");
        other.get(WHOAMI).await.ok();
    })
    .await;
}

#[tokio::test]
async fn an_authentication_for_one_device_does_not_delete_another() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let (one, two) = (alice.log_in_again().await, alice.log_in_again().await);
        let challenge = alice.delete(&path(&one), json!({})).await;
        let auth = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": "alice" },
            "password": PASSWORD,
            "session": challenge.body["session"],
        });
        let refused = alice.delete(&path(&two), json!({ "auth": auth })).await;
        refused.is_refused(403, "M_FORBIDDEN");
        two.get(WHOAMI).await.ok();
    })
    .await;
}

#[tokio::test]
async fn an_authentication_of_one_user_does_not_serve_another() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let body = json!({ "devices": ["X"] });
        let delete = "/_matrix/client/v3/delete_devices";
        let challenge = alice.post(delete, body.clone()).await;
        let mut body = body;
        body["auth"] = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": "bob" },
            "password": PASSWORD,
            "session": challenge.body["session"],
        });
        bob.post(delete, body).await.is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn several_devices_are_deleted_at_once_and_unknown_ones_passed_over() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let (one, two) = (alice.log_in_again().await, alice.log_in_again().await);
        let body = json!({ "devices": [one.device_id, two.device_id, "UNKNOWN"] });
        let delete = "/_matrix/client/v3/delete_devices";
        prove(&alice, Method::POST, delete, body, "alice", PASSWORD)
            .await
            .ok();
        let list = alice.get("/_matrix/client/v3/devices").await.ok();
        assert_eq!(list["devices"].as_array().unwrap().len(), 1);
        one.get(WHOAMI).await.is_refused(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn when_a_device_was_seen_is_kept_over_a_restart() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        alice.get(WHOAMI).await.ok();
        // What was noted is written at the latest when the server stops.
        server.restart().await;
        let device = alice.get(&path(&alice)).await.ok();
        assert_eq!(device["last_seen_ip"], "127.0.0.1");
        assert!(device["last_seen_ts"].as_i64().unwrap() > 1_600_000_000_000);
    })
    .await;
}
