//! Who can register, and by what name.

use parley_conformance::{TestOptions, on_each_engine, on_each_engine_with};
use parley_engine::settings::{RateLimit, RegistrationMode, Secret};
use serde_json::{Value, json};

const REGISTER: &str = "/_matrix/client/v3/register";

fn by_dummy(username: &str) -> Value {
    json!({
        "username": username,
        "password": "correct horse battery staple",
        "auth": { "type": "m.login.dummy" },
    })
}

fn with_mode(mode: RegistrationMode) -> TestOptions {
    let mut options = TestOptions::default();
    options.engine.registration.mode = mode;
    options.engine.registration.tokens = vec![Secret::new("configured")];
    options
}

#[tokio::test]
async fn registering_takes_one_request_if_authentication_is_given_at_once() {
    on_each_engine(async |server| {
        let mut body = by_dummy("alice");
        body["device_id"] = "PHONE".into();
        let answer = server.client().post(REGISTER, body).await;
        assert_eq!(answer.headers["content-type"], "application/json");
        let answer = answer.ok();
        assert_eq!(answer["user_id"], "@alice:parley.test");
        assert_eq!(answer["device_id"], "PHONE");
        assert_eq!(answer["refresh_token"], Value::Null);

        let alice = server
            .client()
            .with_token(answer["access_token"].as_str().unwrap());
        let whoami = alice.get("/_matrix/client/v3/account/whoami").await.ok();
        assert_eq!(whoami["user_id"], "@alice:parley.test");
        assert_eq!(whoami["device_id"], "PHONE");
    })
    .await;
}

#[tokio::test]
async fn registering_takes_two_requests_if_the_client_asks_first() {
    on_each_engine(async |server| {
        let client = server.client();
        let mut body = by_dummy("alice");
        let auth = body.as_object_mut().unwrap().remove("auth");
        let challenge = client.post(REGISTER, body.clone()).await;
        assert_eq!(challenge.status, 401);
        assert_eq!(challenge.headers["content-type"], "application/json");
        assert_eq!(
            challenge.body["flows"],
            json!([{ "stages": ["m.login.dummy"] }])
        );
        assert!(challenge.body["params"].is_object());
        let session = challenge.body["session"].as_str().unwrap();

        body["auth"] = auth.unwrap();
        body["auth"]["session"] = session.into();
        client.post(REGISTER, body).await.ok();
    })
    .await;
}

#[tokio::test]
async fn an_auth_that_names_neither_stage_nor_session_asks_for_the_flows() {
    on_each_engine(async |server| {
        let client = server.client();
        for auth in [json!({}), json!({ "initial_device_display_name": "Desk" })] {
            let mut body = by_dummy("alice");
            body["auth"] = auth;
            let challenge = client.post(REGISTER, body).await;
            assert_eq!(challenge.status, 401);
            assert!(challenge.body["session"].is_string());
        }
    })
    .await;
}

#[tokio::test]
async fn an_authentication_that_was_begun_survives_a_restart() {
    on_each_engine(async |server| {
        let challenge = server.client().post(REGISTER, json!({})).await;
        assert_eq!(challenge.status, 401);
        server.restart().await;
        let mut body = by_dummy("alice");
        body["auth"]["session"] = challenge.body["session"].clone();
        server.client().post(REGISTER, body).await.ok();
    })
    .await;
}

#[tokio::test]
async fn an_authentication_serves_once() {
    on_each_engine(async |server| {
        let challenge = server.client().post(REGISTER, json!({})).await;
        let session = challenge.body["session"].clone();
        let mut body = by_dummy("alice");
        body["auth"]["session"] = session.clone();
        server.client().post(REGISTER, body).await.ok();
        let body = json!({ "auth": { "session": session } });
        let answer = server.client().post(REGISTER, body).await;
        assert_eq!(answer.status, 401);
        assert_ne!(answer.body["session"], session);
    })
    .await;
}

#[tokio::test]
async fn a_taken_name_is_refused_in_any_case() {
    on_each_engine(async |server| {
        server.register("alice").await;
        let client = server.client();
        for name in ["alice", "ALICE"] {
            let answer = client.post(REGISTER, by_dummy(name)).await;
            answer.is_refused(400, "M_USER_IN_USE");
            // Before any authentication, as the specification demands.
            let body = json!({ "username": name, "password": "correct horse" });
            let answer = client.post(REGISTER, body).await;
            answer.is_refused(400, "M_USER_IN_USE");
        }
    })
    .await;
}

#[tokio::test]
async fn two_who_register_the_same_name_at_once_do_not_both_get_it() {
    on_each_engine(async |server| {
        let client = server.client();
        let attempts = (0..8).map(|_| client.post(REGISTER, by_dummy("alice")));
        let answers = futures::future::join_all(attempts).await;
        let served = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(served, 1);
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            answer.is_refused(400, "M_USER_IN_USE");
        }
    })
    .await;
}

#[tokio::test]
async fn a_name_outside_the_grammar_is_refused() {
    on_each_engine(async |server| {
        let client = server.client();
        for character in "!\":?\\@[]{|}£é\n'\0".chars() {
            let name = format!("user-{character}");
            let answer = client.post(REGISTER, by_dummy(&name)).await;
            answer.is_refused(400, "M_INVALID_USERNAME");
        }
        let answer = client.post(REGISTER, by_dummy(&"a".repeat(300))).await;
        answer.is_refused(400, "M_INVALID_USERNAME");
    })
    .await;
}

#[tokio::test]
async fn a_name_is_lowered_and_one_is_chosen_if_none_is_given() {
    on_each_engine(async |server| {
        let client = server.client();
        let answer = client.post(REGISTER, by_dummy("user-UPPER")).await.ok();
        assert_eq!(answer["user_id"], "@user-upper:parley.test");
        let mut body = by_dummy("");
        body.as_object_mut().unwrap().remove("username");
        let answer = client.post(REGISTER, body).await.ok();
        let user_id = answer["user_id"].as_str().unwrap();
        assert!(user_id.ends_with(":parley.test"), "{user_id}");
    })
    .await;
}

#[tokio::test]
async fn who_does_not_want_to_be_logged_in_gets_no_token() {
    on_each_engine(async |server| {
        let mut body = by_dummy("alice");
        body["inhibit_login"] = true.into();
        let answer = server.client().post(REGISTER, body).await.ok();
        assert_eq!(answer, json!({ "user_id": "@alice:parley.test" }));
    })
    .await;
}

#[tokio::test]
async fn a_short_password_is_refused_before_authentication() {
    on_each_engine(async |server| {
        let body = json!({ "username": "alice", "password": "short" });
        let answer = server.client().post(REGISTER, body).await;
        answer.is_refused(400, "M_WEAK_PASSWORD");
    })
    .await;
}

#[tokio::test]
async fn an_account_needs_a_password() {
    on_each_engine(async |server| {
        let body = json!({ "username": "alice", "auth": { "type": "m.login.dummy" } });
        let answer = server.client().post(REGISTER, body).await;
        answer.is_refused(400, "M_MISSING_PARAM");
    })
    .await;
}

#[tokio::test]
async fn there_are_no_guests() {
    on_each_engine(async |server| {
        let answer = server
            .client()
            .post(&format!("{REGISTER}?kind=guest"), json!({}))
            .await;
        answer.is_refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn who_claims_to_be_an_application_service_needs_its_token() {
    on_each_engine(async |server| {
        let body = json!({ "type": "m.login.application_service", "username": "bot" });
        let answer = server.client().post(REGISTER, body.clone()).await;
        answer.is_refused(401, "M_MISSING_TOKEN");
        let client = server.client().with_token("made up");
        client
            .post(REGISTER, body)
            .await
            .is_refused(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn nobody_registers_where_registration_is_closed() {
    on_each_engine_with(
        || with_mode(RegistrationMode::Closed),
        async |server| {
            let client = server.client();
            let answer = client.post(REGISTER, by_dummy("alice")).await;
            answer.is_refused(403, "M_FORBIDDEN");
            let available = format!("{REGISTER}/available?username=alice");
            client.get(&available).await.is_refused(403, "M_FORBIDDEN");
        },
    )
    .await;
}

#[tokio::test]
async fn a_free_name_is_available_and_others_are_not() {
    on_each_engine(async |server| {
        server.register("alice").await;
        let client = server.client();
        let available = async |name: &str| {
            client
                .get(&format!("{REGISTER}/available?username={name}"))
                .await
        };
        assert_eq!(available("bob").await.ok(), json!({ "available": true }));
        available("alice").await.is_refused(400, "M_USER_IN_USE");
        available("user,x")
            .await
            .is_refused(400, "M_INVALID_USERNAME");
        let answer = client.get(&format!("{REGISTER}/available")).await;
        answer.is_refused(400, "M_MISSING_PARAM");
    })
    .await;
}

#[tokio::test]
async fn only_a_registration_token_lets_register_where_one_is_demanded() {
    on_each_engine_with(
        || with_mode(RegistrationMode::Token),
        async |server| {
            let client = server.client();
            let answer = client.post(REGISTER, by_dummy("alice")).await;
            answer.is_refused(401, "M_UNRECOGNIZED");
            assert_eq!(
                answer.body["flows"],
                json!([{ "stages": ["m.login.registration_token"] }])
            );
            let by_token = |token: &str| {
                let mut body = by_dummy("alice");
                body["auth"] = json!({ "type": "m.login.registration_token", "token": token });
                body
            };
            let answer = client.post(REGISTER, by_token("guessed")).await;
            answer.is_refused(401, "M_UNAUTHORIZED");
            client.post(REGISTER, by_token("configured")).await.ok();
        },
    )
    .await;
}

#[tokio::test]
async fn the_validity_of_a_registration_token_can_be_asked() {
    on_each_engine_with(
        || with_mode(RegistrationMode::Token),
        async |server| {
            let client = server.client();
            for (token, valid) in [("configured", true), ("guessed", false), ("%00", false)] {
                let path = format!(
                    "/_matrix/client/v1/register/m.login.registration_token/validity?token={token}"
                );
                assert_eq!(client.get(&path).await.ok(), json!({ "valid": valid }));
            }
        },
    )
    .await;
}

#[tokio::test]
async fn registrations_of_one_address_are_limited() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rate_limits.enabled = true;
        options.engine.rate_limits.registration = RateLimit::new(0.001, 2);
        options
    };
    on_each_engine_with(options, async |server| {
        let client = server.client();
        client.post(REGISTER, by_dummy("one")).await.ok();
        client.post(REGISTER, by_dummy("two")).await.ok();
        let answer = client.post(REGISTER, by_dummy("three")).await;
        answer.is_refused(429, "M_LIMIT_EXCEEDED");
        assert!(answer.body["retry_after_ms"].as_u64().unwrap() > 900_000);
        let seconds: u64 = answer.headers["retry-after"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(seconds > 900);
    })
    .await;
}

#[tokio::test]
async fn there_are_two_kinds_of_accounts() {
    on_each_engine(async |server| {
        let client = server.client();
        let path = "/_matrix/client/v3/register?kind=machine";
        client
            .post(path, json!({}))
            .await
            .is_refused(400, "M_INVALID_PARAM");
        let path = "/_matrix/client/v3/register?kind=user";
        assert_eq!(client.post(path, json!({})).await.status, 401);
    })
    .await;
}
