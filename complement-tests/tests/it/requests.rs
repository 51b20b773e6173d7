//! What all endpoints have in common.

use parley_conformance::{TestOptions, on_each_engine, on_each_engine_with};
use reqwest::Method;

#[tokio::test]
async fn an_unknown_path_is_unrecognized() {
    on_each_engine(async |server| {
        for path in ["/_matrix/client/v3/unknown", "/_matrix/unknown", "/"] {
            let answer = server.client().get(path).await;
            answer.is_refused(404, "M_UNRECOGNIZED");
            assert_eq!(answer.headers["access-control-allow-origin"], "*");
        }
    })
    .await;
}

#[tokio::test]
async fn a_method_that_an_endpoint_does_not_have_is_unrecognized() {
    on_each_engine(async |server| {
        let path = "/_matrix/client/versions";
        let answer = server.client().put(path, serde_json::json!({})).await;
        answer.is_refused(405, "M_UNRECOGNIZED");
    })
    .await;
}

#[tokio::test]
async fn a_browser_may_ask_from_any_origin() {
    on_each_engine(async |server| {
        for path in ["/_matrix/client/v3/login", "/_matrix/client/v3/unknown"] {
            let answer = server
                .client()
                .send(Method::OPTIONS, path, None::<String>)
                .await;
            assert!(answer.status.is_success(), "{answer:?}");
            let header = |name| answer.headers[name].to_str().unwrap().to_lowercase();
            assert_eq!(header("access-control-allow-origin"), "*");
            assert!(header("access-control-allow-methods").contains("delete"));
            assert!(header("access-control-allow-headers").contains("authorization"));
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_json_is_told_from_json_of_the_wrong_shape() {
    on_each_engine(async |server| {
        let client = server.client();
        let register = async |body: &[u8]| {
            let path = "/_matrix/client/v3/register";
            client.send(Method::POST, path, Some(body.to_vec())).await
        };
        let deep = format!(
            r#"{{"unknown": {}{}}}"#,
            "[".repeat(1_000),
            "]".repeat(1_000)
        );
        let not_json: [&[u8]; 5] = [
            b"{",
            b"\x81",
            b"{\"unknown\": \"a\x81\"}",
            b"{\"password\": \"a\x81\"}",
            deep.as_bytes(),
        ];
        for body in not_json {
            register(body).await.is_refused(400, "M_NOT_JSON");
        }
        let wrong_shape: [&[u8]; 3] = [b"\"text\"", b"{\"username\": 1}", b"[\"password\"]"];
        for body in wrong_shape {
            register(body).await.is_refused(400, "M_BAD_JSON");
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let options = || {
        let mut options = TestOptions::default();
        options.client_api.max_body_size = 1_000;
        options
    };
    on_each_engine_with(options, async |server| {
        let client = server.client();
        let path = "/_matrix/client/v3/register";
        let large = format!("{{\"password\": \"{}\"}}", "x".repeat(1_000));
        let answer = client.send(Method::POST, path, Some(large.clone())).await;
        answer.is_refused(413, "M_TOO_LARGE");
        // Without an announced length.
        let chunks = futures::stream::iter([Ok::<_, std::io::Error>(large)]);
        let body = reqwest::Body::wrap_stream(chunks);
        let answer = client.send(Method::POST, path, Some(body)).await;
        answer.is_refused(413, "M_TOO_LARGE");
    })
    .await;
}

#[tokio::test]
async fn endpoints_are_there_by_the_paths_of_older_versions_too() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let answer = alice.get("/_matrix/client/r0/account/whoami").await;
        assert_eq!(answer.ok()["user_id"], alice.user_id);
    })
    .await;
}

#[tokio::test]
async fn asking_what_may_be_asked_changes_nothing() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for path in ["logout", "logout/all", "account/deactivate", "createRoom"] {
            let path = format!("/_matrix/client/v3/{path}");
            let answer = alice.send(Method::OPTIONS, &path, Some("{}")).await;
            assert!(answer.status.is_success(), "{answer:?}");
        }
        let rooms = alice.get("/_matrix/client/v3/joined_rooms").await.ok();
        assert_eq!(rooms["joined_rooms"], serde_json::json!([]));
    })
    .await;
}

#[tokio::test]
async fn every_answer_says_that_it_is_json_and_for_any_origin() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let unknown = alice.with_token("unknown");
        for (client, path) in [
            (&alice, "/_matrix/client/v3/account/whoami"),
            (&alice, "/_matrix/client/v3/sync"),
            (&alice, "/_matrix/client/v3/rooms/none/state"),
            (&unknown, "/_matrix/client/v3/account/whoami"),
            (&unknown, "/_matrix/client/v3/sync"),
            (&alice, "/_matrix/client/v3/nothing"),
        ] {
            let answer = client.get(path).await;
            assert_eq!(answer.headers["content-type"], "application/json", "{path}");
            assert_eq!(answer.headers["access-control-allow-origin"], "*", "{path}");
            assert!(answer.body.is_object(), "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_is_taken_from_the_header_or_the_query() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let nobody = alice.without_token();
        let whoami = "/_matrix/client/v3/account/whoami";
        let token = alice.token.clone().unwrap();
        let in_query = format!("{whoami}?access_token={token}");
        assert_eq!(nobody.get(&in_query).await.ok()["user_id"], alice.user_id);
        // The header counts where there are both.
        assert_eq!(bob.get(&in_query).await.ok()["user_id"], bob.user_id);
        nobody.get(whoami).await.is_refused(401, "M_MISSING_TOKEN");
        let answer = nobody.get(&format!("{whoami}?access_token=unknown")).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
        assert_ne!(answer.body["soft_logout"], true);
        let answer = nobody.with_token("unknown").get(whoami).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn what_this_server_does_not_do_is_unrecognized() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for path in [
            "/_matrix/client/v1/auth_metadata",
            "/_matrix/client/v3/login/sso/redirect?redirectUrl=x",
            "/_matrix/client/v99/sync",
            "/_matrix/client/v3/sync/",
        ] {
            alice.get(path).await.is_refused(404, "M_UNRECOGNIZED");
        }
        for method in [Method::POST, Method::DELETE, Method::PATCH] {
            let path = "/_matrix/client/v3/sync";
            let answer = alice.send(method, path, Some("{}")).await;
            answer.is_refused(405, "M_UNRECOGNIZED");
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_needs_no_content_type() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let http = reqwest::Client::new();
        for content_type in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
        ] {
            let url = format!("{}/_matrix/client/v3/createRoom", alice.base());
            let request = http.post(url).bearer_auth(alice.token.as_ref().unwrap());
            let request = match content_type {
                Some(content_type) => request.header("Content-Type", content_type),
                None => request,
            };
            let response = request.body("{\"name\": \"a\"}").send().await.unwrap();
            assert_eq!(response.status(), 200, "{content_type:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_path_that_is_no_text_is_refused() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for path in [
            "rooms/%ff/state",
            "profile/%ff",
            "rooms/%zz/state",
            "sync?since=%ff",
        ] {
            let answer = alice.get(&format!("/_matrix/client/v3/{path}")).await;
            answer.is_refused(400, "M_INVALID_PARAM");
        }
    })
    .await;
}
