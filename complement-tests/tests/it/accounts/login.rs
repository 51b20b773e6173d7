//! Logging in and out.

use parley_conformance::{Client, PASSWORD, TestOptions, on_each_engine, on_each_engine_with};
use parley_engine::settings::{PasswordSettings, RateLimit};
use serde_json::{Value, json};

const LOGIN: &str = "/_matrix/client/v3/login";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

fn as_user(user: &str, password: &str) -> Value {
    json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": user },
        "password": password,
    })
}

async fn device_count(client: &Client) -> usize {
    let answer = client.get("/_matrix/client/v3/devices").await.ok();
    answer["devices"].as_array().unwrap().len()
}

#[tokio::test]
async fn the_ways_to_log_in_are_told() {
    on_each_engine(async |server| {
        let answer = server.client().get(LOGIN).await;
        assert_eq!(answer.headers["content-type"], "application/json");
        let flows = answer.ok()["flows"].clone();
        assert!(
            flows
                .as_array()
                .unwrap()
                .contains(&json!({ "type": "m.login.password" }))
        );
    })
    .await;
}

#[tokio::test]
async fn a_user_is_named_by_id_or_localpart_in_any_case() {
    on_each_engine(async |server| {
        server.register("user-1").await;
        let client = server.client();
        let names = [
            "user-1",
            "USER-1",
            "@user-1:parley.test",
            "@USER-1:parley.test",
        ];
        for name in names {
            let answer = client.post(LOGIN, as_user(name, PASSWORD)).await.ok();
            assert_eq!(answer["user_id"], "@user-1:parley.test");
            let token = answer["access_token"].as_str().unwrap();
            client.with_token(token).get(WHOAMI).await.ok();
        }
        let body = json!({ "type": "m.login.password", "user": "user-1", "password": PASSWORD });
        client.post(LOGIN, body).await.ok();
    })
    .await;
}

#[tokio::test]
async fn an_unknown_user_is_refused_like_a_wrong_password() {
    on_each_engine(async |server| {
        server.register("alice").await;
        let client = server.client();
        let wrong = client.post(LOGIN, as_user("alice", "wrong")).await;
        wrong.is_refused(403, "M_FORBIDDEN");
        let others = [
            "nobody",
            "@alice:elsewhere.test",
            "not a name",
            "nul\0",
            "@:",
            "",
        ];
        for user in others {
            let answer = client.post(LOGIN, as_user(user, PASSWORD)).await;
            assert_eq!((answer.status, &answer.body), (wrong.status, &wrong.body));
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_login_is_refused() {
    on_each_engine(async |server| {
        let client = server.client();
        let refused = async |body: Value| client.post(LOGIN, body).await;
        refused(json!({})).await.is_refused(400, "M_BAD_JSON");
        refused(json!({ "type": 1 }))
            .await
            .is_refused(400, "M_BAD_JSON");
        refused(json!({ "type": "m.login.magic" }))
            .await
            .is_refused(400, "M_UNKNOWN");
        refused(json!({ "type": "m.login.password", "password": PASSWORD }))
            .await
            .is_refused(400, "M_MISSING_PARAM");
        let by_mail = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.thirdparty", "medium": "email", "address": "a@b.test" },
            "password": PASSWORD,
        });
        refused(by_mail).await.is_refused(403, "M_FORBIDDEN");
        let by_phone = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.phone", "country": "GB", "phone": "123" },
            "password": PASSWORD,
        });
        refused(by_phone).await.is_refused(403, "M_FORBIDDEN");
        let by_magic = json!({
            "type": "m.login.password",
            "identifier": { "type": "com.example.magic" },
            "password": PASSWORD,
        });
        refused(by_magic).await.is_refused(400, "M_UNKNOWN");
        refused(json!({ "type": "m.login.application_service" }))
            .await
            .is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_device_that_logs_in_again_keeps_its_id_and_its_old_token_ends() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let mut body = as_user("alice", PASSWORD);
        body["device_id"] = alice.device_id.clone().into();
        let again = server.client().post(LOGIN, body).await.ok();
        assert_eq!(again["device_id"], alice.device_id);
        alice.get(WHOAMI).await.is_refused(401, "M_UNKNOWN_TOKEN");
        let alice = alice.with_token(again["access_token"].as_str().unwrap());
        assert_eq!(device_count(&alice).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_device_id_that_cannot_be_stored_is_refused() {
    on_each_engine(async |server| {
        server.register("alice").await;
        for id in ["", "nul\0", &"x".repeat(256)] {
            let mut body = as_user("alice", PASSWORD);
            body["device_id"] = id.into();
            let answer = server.client().post(LOGIN, body).await;
            answer.is_refused(400, "M_INVALID_PARAM");
        }
        let mut body = as_user("alice", PASSWORD);
        body["initial_device_display_name"] = "nul\0".into();
        let answer = server.client().post(LOGIN, body).await;
        answer.is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn a_logout_ends_one_device_only() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let other = alice.log_in_again().await;
        assert_eq!(device_count(&alice).await, 2);
        let empty = None::<String>;
        let answer = other
            .send(reqwest::Method::POST, "/_matrix/client/v3/logout", empty)
            .await;
        assert_eq!(answer.ok(), json!({}));
        let answer = other.get(WHOAMI).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
        assert_eq!(answer.body["soft_logout"], Value::Null);
        assert_eq!(device_count(&alice).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_logout_of_all_devices_ends_that_of_the_asker_too() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let other = alice.log_in_again().await;
        let bob = server.register("bob").await;
        alice
            .post("/_matrix/client/v3/logout/all", json!({}))
            .await
            .ok();
        alice.get(WHOAMI).await.is_refused(401, "M_UNKNOWN_TOKEN");
        other.get(WHOAMI).await.is_refused(401, "M_UNKNOWN_TOKEN");
        bob.get(WHOAMI).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_login_outlives_a_restart() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        server.restart().await;
        assert_eq!(alice.get(WHOAMI).await.ok()["user_id"], alice.user_id);
    })
    .await;
}

#[tokio::test]
async fn a_token_may_stand_in_the_query() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let token = alice.token.as_deref().unwrap();
        let path = format!("{WHOAMI}?access_token={token}");
        server.client().get(&path).await.ok();
        let answer = server.client().get(WHOAMI).await;
        answer.is_refused(401, "M_MISSING_TOKEN");
        let answer = server.client().with_token("made up").get(WHOAMI).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn an_account_has_a_limited_number_of_devices() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.tokens.max_devices = 2;
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        alice.log_in_again().await;
        let answer = server
            .client()
            .post(LOGIN, as_user("alice", PASSWORD))
            .await;
        answer.is_refused(403, "M_USER_LIMIT_EXCEEDED");
        // A device that is there already isn't one more.
        let mut body = as_user("alice", PASSWORD);
        body["device_id"] = alice.device_id.into();
        server.client().post(LOGIN, body).await.ok();
    })
    .await;
}

#[tokio::test]
async fn guessing_a_password_is_limited_by_account_and_a_success_clears_the_count() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rate_limits.enabled = true;
        options.engine.rate_limits.login_failures = RateLimit::new(0.001, 3);
        options
    };
    on_each_engine_with(options, async |server| {
        server.register("alice").await;
        server.register("bob").await;
        let log_in = async |user: &str, password: &str| {
            server.client().post(LOGIN, as_user(user, password)).await
        };
        for _ in 0..3 {
            log_in("alice", "wrong")
                .await
                .is_refused(403, "M_FORBIDDEN");
            log_in("bob", PASSWORD).await.ok();
        }
        let answer = log_in("@ALICE:parley.test", PASSWORD).await;
        answer.is_refused(429, "M_LIMIT_EXCEEDED");
        log_in("bob", PASSWORD).await.ok();
    })
    .await;
}

#[tokio::test]
async fn guessing_a_password_is_limited_wherever_the_guesses_come_from() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rate_limits.enabled = true;
        options.engine.rate_limits.login_failures = RateLimit::new(0.001, 3);
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let guess = async |last: u8| {
            let address = std::net::Ipv4Addr::new(127, 0, 0, last);
            let http = reqwest::Client::builder().local_address(Some(address.into()));
            let body = json!({
                "type": "m.login.password",
                "identifier": { "type": "m.id.user", "user": alice.user_id },
                "password": "wrong",
            });
            let request = http.build().unwrap();
            let request = request.post(format!("{}/_matrix/client/v3/login", alice.base()));
            request
                .body(body.to_string())
                .send()
                .await
                .unwrap()
                .status()
        };
        for last in 2..5 {
            assert_eq!(guess(last).await, 403);
        }
        assert_eq!(guess(5).await, 429);
    })
    .await;
}

#[tokio::test]
async fn a_locked_user_can_log_out_and_nothing_else() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = crate::rooms::create_public(&alice).await;
        let user_id = ruma::UserId::parse(&alice.user_id).unwrap();
        let accounts = server.engine().accounts();
        accounts.set_locked(&user_id, true).await.unwrap();
        let answer = alice.get(WHOAMI).await;
        answer.is_refused(401, "M_USER_LOCKED");
        assert_eq!(answer.body["soft_logout"], true);
        // What is the client's own choice in a path doesn't make it a logout.
        let base = format!(
            "/_matrix/client/v3/rooms/{}",
            crate::rooms::quoted(&room_id)
        );
        for path in ["send/m.room.message/logout", "state/com.example/logout"] {
            let content = json!({ "msgtype": "m.text", "body": "still here" });
            let answer = alice.put(&format!("{base}/{path}"), content).await;
            answer.is_refused(401, "M_USER_LOCKED");
        }
        let answer = server
            .client()
            .post(LOGIN, as_user("alice", PASSWORD))
            .await;
        answer.is_refused(401, "M_USER_LOCKED");
        accounts.set_locked(&user_id, false).await.unwrap();
        alice.get(WHOAMI).await.ok();
        accounts.set_locked(&user_id, true).await.unwrap();
        alice
            .post("/_matrix/client/v3/logout", json!({}))
            .await
            .ok();
        alice.get(WHOAMI).await.is_refused(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_password_still_fits_after_the_hashing_was_made_costlier() {
    on_each_engine(async |server| {
        server.register("alice").await;
        server.options_mut().engine.passwords = PasswordSettings {
            memory_kib: 128,
            iterations: 2,
            ..PasswordSettings::default()
        };
        server.restart().await;
        // The first login hashes anew, the second uses that.
        for _ in 0..2 {
            let answer = server
                .client()
                .post(LOGIN, as_user("alice", PASSWORD))
                .await;
            answer.ok();
        }
    })
    .await;
}

#[tokio::test]
async fn clients_that_know_no_way_to_log_in_show_a_page_that_does() {
    on_each_engine(async |server| {
        let base = server.client().base().to_owned();
        for path in [
            "/_matrix/static/client/login",
            "/_matrix/static/client/login/?device_id=A",
        ] {
            let response = reqwest::get(format!("{base}{path}")).await.unwrap();
            assert_eq!(response.status(), 200);
            let policy = response.headers()["content-security-policy"]
                .to_str()
                .unwrap();
            assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"));
            let html = response.text().await.unwrap();
            assert!(html.contains("matrixLogin.onLogin") && html.contains("type=\"password\""));
        }
    })
    .await;
}
