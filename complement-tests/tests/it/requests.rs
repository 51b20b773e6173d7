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
