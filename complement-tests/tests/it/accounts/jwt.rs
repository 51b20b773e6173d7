//! Logging in by a token that another service signed.

use hmac::{Hmac, KeyInit, Mac};
use parley_conformance::{Answer, TestOptions, TestServer, on_each_engine, on_each_engine_with};
use parley_engine::settings::{JwtKey, JwtSettings, Secret};
use ruma::serde::{Base64, base64::UrlSafe};
use serde_json::{Value, json};
use sha2::Sha256;

const LOGIN: &str = "/_matrix/client/v3/login";
const SECRET: &str = "what portal and server share";

fn options(change: impl Fn(&mut JwtSettings)) -> TestOptions {
    let mut options = TestOptions::default();
    let mut settings = JwtSettings::new(JwtKey::Secret(Secret::new(SECRET)));
    change(&mut settings);
    options.engine.login.jwt = Some(settings);
    options
}

fn encoded(bytes: &[u8]) -> String {
    Base64::<UrlSafe, _>::new(bytes).to_string()
}

fn signed_by(secret: &str, header: &Value, claims: &Value) -> String {
    let header = encoded(header.to_string().as_bytes());
    let signed = format!("{header}.{}", encoded(claims.to_string().as_bytes()));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", encoded(&mac.finalize().into_bytes()))
}

fn signed(claims: &Value) -> String {
    signed_by(SECRET, &json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

async fn log_in(server: &TestServer, token: &str) -> Answer {
    let body = json!({ "type": "org.matrix.login.jwt", "token": token });
    server.client().post(LOGIN, body).await
}

#[tokio::test]
async fn who_is_vouched_for_gets_an_account_and_the_same_again() {
    on_each_engine_with(
        || options(|_| {}),
        async |server| {
            let flows = server.client().get(LOGIN).await.ok()["flows"].clone();
            let offered = json!({ "type": "org.matrix.login.jwt" });
            assert!(flows.as_array().unwrap().contains(&offered));
            for _ in 0..2 {
                let answer = log_in(server, &signed(&json!({ "sub": "alice" })))
                    .await
                    .ok();
                assert_eq!(answer["user_id"], "@alice:parley.test");
            }
            server.register("bob").await;
            let answer = log_in(server, &signed(&json!({ "sub": "bob" }))).await.ok();
            assert_eq!(answer["user_id"], "@bob:parley.test");
        },
    )
    .await;
}

#[tokio::test]
async fn what_nobody_signed_or_is_over_is_refused() {
    on_each_engine_with(
        || options(|_| {}),
        async |server| {
            let claims = json!({ "sub": "alice" });
            let unsigned = format!(
                "{}.",
                signed_by(SECRET, &json!({ "alg": "none" }), &claims)
                    .rsplit_once('.')
                    .unwrap()
                    .0
            );
            for token in [
                "no token",
                "a.b.c",
                &unsigned,
                &signed_by("another secret", &json!({ "alg": "HS256" }), &claims),
                &signed_by(SECRET, &json!({ "alg": "HS512" }), &claims),
                &signed(&json!({ "sub": "alice", "exp": 1_000_000_000 })),
                &signed(&json!({ "sub": "alice", "nbf": 32_503_680_000_i64 })),
                &signed(&json!({ "sub": "alice", "aud": "another" })),
                &signed(&json!({ "name": "alice" })),
                &signed(&json!({ "sub": 1 })),
                &signed(&json!({ "sub": "123456789012" })),
            ] {
                log_in(server, token).await.is_refused(403, "M_FORBIDDEN");
            }
            let answer = log_in(server, &signed(&json!({ "sub": "no name" }))).await;
            answer.is_refused(400, "M_INVALID_USERNAME");
            let body = json!({ "type": "org.matrix.login.jwt" });
            let answer = server.client().post(LOGIN, body).await;
            answer.is_refused(400, "M_MISSING_PARAM");
        },
    )
    .await;
}

#[tokio::test]
async fn issuer_audience_and_claim_are_those_of_the_settings() {
    let strict = || {
        options(|settings| {
            settings.issuer = Some("portal".to_owned());
            settings.audiences = vec!["chat".to_owned()];
            settings.subject_claim = "nick".to_owned();
            settings.create_accounts = false;
        })
    };
    on_each_engine_with(strict, async |server| {
        server.register("alice").await;
        let good = json!({ "nick": "alice", "iss": "portal", "aud": ["chat", "mail"] });
        log_in(server, &signed(&good)).await.ok();
        for (claim, value) in [("iss", "other"), ("aud", "mail"), ("nick", "nobody")] {
            let mut bad = good.clone();
            bad[claim] = value.into();
            log_in(server, &signed(&bad))
                .await
                .is_refused(403, "M_FORBIDDEN");
            bad.as_object_mut().unwrap().remove(claim);
            log_in(server, &signed(&bad))
                .await
                .is_refused(403, "M_FORBIDDEN");
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_locked_or_gone_stays_out() {
    on_each_engine_with(
        || options(|_| {}),
        async |server| {
            let alice = server.register("alice").await;
            let user_id = ruma::UserId::parse(&alice.user_id).unwrap();
            let token = signed(&json!({ "sub": "alice" }));
            let accounts = server.engine().accounts();
            accounts.set_locked(&user_id, true).await.unwrap();
            log_in(server, &token)
                .await
                .is_refused(401, "M_USER_LOCKED");
            accounts.deactivate(&user_id, false).await.unwrap();
            log_in(server, &token)
                .await
                .is_refused(403, "M_USER_DEACTIVATED");
        },
    )
    .await;
}

#[tokio::test]
async fn without_settings_there_is_no_such_login() {
    on_each_engine(async |server| {
        let answer = log_in(server, &signed(&json!({ "sub": "alice" }))).await;
        answer.is_refused(400, "M_UNKNOWN");
    })
    .await;
}
