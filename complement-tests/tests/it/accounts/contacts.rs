//! Mail addresses and telephone numbers, of which this server keeps none.

use parley_conformance::on_each_engine;
use serde_json::json;

#[tokio::test]
async fn there_are_none_and_none_can_be_added() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let path = "/_matrix/client/v3/account/3pid";
        assert_eq!(alice.get(path).await.ok(), json!({ "threepids": [] }));
        let session = json!({ "client_secret": "monkeys_are_GREAT", "sid": "abc123987" });
        let answer = alice.post(&format!("{path}/add"), session.clone()).await;
        answer.is_refused(400, "M_THREEPID_AUTH_FAILED");
        let mut bind = session.clone();
        bind["id_server"] = "id.test".into();
        bind["id_access_token"] = "token".into();
        let answer = alice.post(&format!("{path}/bind"), bind).await;
        answer.is_refused(400, "M_SERVER_NOT_TRUSTED");
        let answer = alice
            .post(path, json!({ "three_pid_creds": session }))
            .await;
        answer.is_refused(403, "M_THREEPID_AUTH_FAILED");
        let address = json!({ "medium": "email", "address": "alice@parley.test" });
        for way in ["delete", "unbind"] {
            let answer = alice
                .post(&format!("{path}/{way}"), address.clone())
                .await
                .ok();
            assert_eq!(answer, json!({ "id_server_unbind_result": "no-support" }));
        }
        let stranger = alice.without_token();
        stranger.get(path).await.is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn no_mails_and_no_text_messages_are_sent() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for area in ["register", "account/password", "account/3pid"] {
            let mail = json!({ "client_secret": "secret", "email": "a@b.test", "send_attempt": 1 });
            let number = json!({
                "client_secret": "secret", "country": "GB", "phone_number": "07700900001", "send_attempt": 1,
            });
            for (medium, body) in [("email", mail), ("msisdn", number)] {
                let path = format!("/_matrix/client/v3/{area}/{medium}/requestToken");
                let answer = alice.post(&path, body).await;
                answer.is_refused(400, "M_THREEPID_MEDIUM_NOT_SUPPORTED");
            }
        }
    })
    .await;
}
