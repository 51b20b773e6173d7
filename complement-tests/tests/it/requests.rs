//! What all endpoints have in common.

use parley_conformance::on_each_engine;
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
