//! The end of an account.

use parley_conformance::{Client, PASSWORD, on_each_engine};
use serde_json::{Value, json};

const DEACTIVATE: &str = "/_matrix/client/v3/account/deactivate";

fn proof(client: &Client, password: &str, session: &Value) -> Value {
    json!({ "auth": {
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": client.user_id },
        "password": password,
        "session": session,
    } })
}

#[tokio::test]
async fn a_deactivated_account_is_gone_for_good() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let other = alice.log_in_again().await;
        let challenge = alice.post(DEACTIVATE, json!({})).await;
        assert_eq!(challenge.status, 401);
        let session = &challenge.body["session"];
        let answer = alice
            .post(DEACTIVATE, proof(&alice, "wrong", session))
            .await;
        answer.is_refused(401, "M_FORBIDDEN");
        let answer = alice
            .post(DEACTIVATE, proof(&alice, PASSWORD, session))
            .await;
        assert_eq!(answer.ok()["id_server_unbind_result"], "no-support");

        for client in [&alice, &other] {
            let answer = client.get("/_matrix/client/v3/account/whoami").await;
            answer.is_refused(401, "M_UNKNOWN_TOKEN");
        }
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": "alice" },
            "password": PASSWORD,
        });
        let answer = alice.post("/_matrix/client/v3/login", body).await;
        answer.is_refused(403, "M_FORBIDDEN");
        let path = "/_matrix/client/v3/register/available?username=alice";
        let answer = alice.get(path).await;
        answer.is_refused(400, "M_USER_IN_USE");
    })
    .await;
}

#[tokio::test]
async fn an_account_is_not_deactivated_without_a_token() {
    on_each_engine(async |server| {
        let answer = server.client().post(DEACTIVATE, json!({})).await;
        answer.is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}
