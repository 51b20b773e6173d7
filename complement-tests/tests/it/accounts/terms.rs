//! What has to be agreed to before one gets an account, and the pages for clients that don't know how to ask.

use parley_conformance::{Answer, Client, TestOptions, on_each_engine, on_each_engine_with};
use parley_engine::settings::{Policy, RegistrationMode, Secret};
use reqwest::Method;
use serde_json::{Value, json};

const REGISTER: &str = "/_matrix/client/v3/register";

fn policy(language: &str, name: &str) -> Policy {
    Policy {
        id: "terms".to_owned(),
        version: "1.2".to_owned(),
        language: language.to_owned(),
        name: name.to_owned(),
        url: format!("https://parley.test/terms-{language}")
            .parse()
            .unwrap(),
    }
}

fn options() -> TestOptions {
    let mut options = TestOptions::default();
    options.engine.registration.terms = vec![
        policy("en", "Terms & conditions"),
        policy("fr", "Conditions d'utilisation"),
    ];
    options
}

fn with_tokens() -> TestOptions {
    let mut options = options();
    options.engine.registration.mode = RegistrationMode::Token;
    options.engine.registration.tokens = vec![Secret::new("letmein")];
    options
}

async fn register(client: &Client, auth: Option<Value>) -> Answer {
    let mut body = json!({ "username": "alice", "password": "correct horse" });
    if let Some(auth) = auth {
        body["auth"] = auth;
    }
    client.post(REGISTER, body).await
}

#[tokio::test]
async fn who_registers_agrees_to_the_documents_first() {
    on_each_engine_with(options, async |server| {
        let client = server.client();
        let challenge = register(&client, None).await;
        assert_eq!(challenge.status, 401);
        assert_eq!(
            challenge.body["flows"],
            json!([{ "stages": ["m.login.terms"] }])
        );
        let terms = &challenge.body["params"]["m.login.terms"]["policies"]["terms"];
        assert_eq!(terms["version"], "1.2");
        assert_eq!(terms["en"]["name"], "Terms & conditions");
        assert_eq!(terms["fr"]["url"], "https://parley.test/terms-fr");

        let session = &challenge.body["session"];
        let answer = register(
            &client,
            Some(json!({ "type": "m.login.dummy", "session": session })),
        )
        .await;
        answer.is_refused(401, "M_UNRECOGNIZED");
        let auth = json!({ "type": "m.login.terms", "session": session });
        register(&client, Some(auth)).await.ok();
    })
    .await;
}

#[tokio::test]
async fn nobody_agrees_to_what_they_were_not_shown() {
    on_each_engine_with(options, async |server| {
        let client = server.client();
        for auth in [
            json!({ "type": "m.login.terms" }),
            json!({ "type": "m.login.terms", "session": "made up" }),
        ] {
            let answer = register(&client, Some(auth)).await;
            answer.is_refused(401, "M_MISSING_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn terms_are_no_way_around_a_registration_token() {
    on_each_engine_with(with_tokens, async |server| {
        let client = server.client();
        let challenge = register(&client, None).await;
        let stages = json!([{ "stages": ["m.login.registration_token", "m.login.terms"] }]);
        assert_eq!(challenge.body["flows"], stages);
        let session = &challenge.body["session"];
        // One after the other.
        let terms = json!({ "type": "m.login.terms", "session": session });
        let answer = register(&client, Some(terms.clone())).await;
        answer.is_refused(401, "M_FORBIDDEN");
        assert!(
            answer
                .body
                .get("completed")
                .is_none_or(|done| *done == json!([]))
        );
        let token =
            json!({ "type": "m.login.registration_token", "token": "letmein", "session": session });
        // What is done stays done, also if it is done again, and however.
        let mut again = token.clone();
        again["token"] = "wrong".into();
        for token in [token, again] {
            let answer = register(&client, Some(token)).await;
            assert_eq!(answer.status, 401);
            let completed = &answer.body["completed"];
            assert_eq!(completed, &json!(["m.login.registration_token"]));
            assert!(answer.body.get("errcode").is_none(), "{}", answer.body);
        }
        register(&client, Some(terms)).await.ok();
    })
    .await;
}

/// A page, or what its form leads to: status, headers' content policy, and text.
async fn page(
    client: &Client,
    method: Method,
    stage: &str,
    session: &str,
    form: &[(&str, &str)],
) -> (u16, String) {
    let url = format!(
        "{}/_matrix/client/v3/auth/{stage}/fallback/web",
        client.base()
    );
    let http = reqwest::Client::new();
    let encoded = |pairs: &[(&str, &str)]| {
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.join("&")
    };
    let request = match method {
        Method::GET => http.get(format!("{url}?session={session}")),
        _ => {
            let mut pairs = form.to_vec();
            pairs.push(("session", session));
            http.post(url)
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body(encoded(&pairs))
        }
    };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    if status == 200 {
        let policy = response.headers()["content-security-policy"]
            .to_str()
            .unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    }
    (status, response.text().await.unwrap())
}

#[tokio::test]
async fn stages_are_done_on_pages_too() {
    on_each_engine_with(with_tokens, async |server| {
        let client = server.client();
        let challenge = register(&client, None).await;
        let session = challenge.body["session"].as_str().unwrap();
        let (status, html) = page(&client, Method::GET, "m.login.terms", session, &[]).await;
        assert_eq!(status, 200);
        assert!(
            html.contains("Terms &amp; conditions") && html.contains(session),
            "{html}"
        );
        let token = "m.login.registration_token";
        let (status, _) = page(&client, Method::POST, "m.login.terms", session, &[]).await;
        assert_eq!(status, 401, "the token comes first");
        let (status, _) = page(&client, Method::POST, token, session, &[("token", "guess")]).await;
        assert_eq!(status, 401);
        let incomplete = register(&client, Some(json!({ "session": session }))).await;
        assert_eq!(incomplete.status, 401);
        let (status, _) = page(
            &client,
            Method::POST,
            token,
            session,
            &[("token", "letmein")],
        )
        .await;
        assert_eq!(status, 200);
        for _ in 0..2 {
            let (status, html) = page(&client, Method::POST, "m.login.terms", session, &[]).await;
            assert_eq!(status, 200);
            assert!(html.contains("authDone"), "{html}");
        }
        register(&client, Some(json!({ "session": session })))
            .await
            .ok();
    })
    .await;
}

#[tokio::test]
async fn a_page_does_no_stage_that_is_not_asked_for() {
    on_each_engine(async |server| {
        let client = server.client();
        let challenge = register(&client, None).await;
        let session = challenge.body["session"].as_str().unwrap();
        for (stage, session) in [
            ("m.login.terms", session),
            ("m.login.dummy", "made-up"),
            ("m.login.password", session),
        ] {
            let (status, text) = page(&client, Method::POST, stage, session, &[]).await;
            assert_eq!(status, 404, "{stage}: {text}");
        }
        let (status, _) = page(&client, Method::GET, "m.login.sso", session, &[]).await;
        assert_eq!(status, 404);
        let (_, html) = page(
            &client,
            Method::GET,
            "m.login.dummy",
            "%22%3E%3Cscript%3E",
            &[],
        )
        .await;
        assert!(!html.contains("<script>"), "{html}");
        let (status, _) = page(&client, Method::POST, "m.login.dummy", session, &[]).await;
        assert_eq!(status, 200);
        register(&client, Some(json!({ "session": session })))
            .await
            .ok();
    })
    .await;
}
