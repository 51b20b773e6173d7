//! Proving to a third party who one is.

use std::{sync::Arc, time::Duration};

use parley_conformance::{Answer, Client, TestOptions, on_each_engine, on_each_engine_with};
use parley_engine::clock::ManualClock;
use serde_json::json;

async fn token(client: &Client) -> String {
    let path = format!(
        "/_matrix/client/v3/user/{}/openid/request_token",
        client.user_id
    );
    let answer = client.post(&path, json!({})).await.ok();
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["matrix_server_name"], "parley.test");
    assert_eq!(answer["expires_in"], 3600);
    answer["access_token"].as_str().unwrap().to_owned()
}

async fn exchange(client: &Client, token: &str) -> Answer {
    let path = format!("/_matrix/federation/v1/openid/userinfo?access_token={token}");
    client.without_token().get(&path).await
}

#[tokio::test]
async fn a_third_party_learns_who_made_a_token_and_can_do_nothing_else_by_it() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let token = token(&alice).await;
        server.restart().await;
        for _ in 0..2 {
            let answer = exchange(&alice, &token).await.ok();
            assert_eq!(answer, json!({ "sub": alice.user_id }));
        }
        let third = alice.with_token(&token);
        third
            .get("/_matrix/client/v3/account/whoami")
            .await
            .is_refused(401, "M_UNKNOWN_TOKEN");
        let own = alice.token.clone().unwrap();
        exchange(&alice, &own)
            .await
            .is_refused(401, "M_UNKNOWN_TOKEN");
        let path = "/_matrix/federation/v1/openid/userinfo";
        alice
            .without_token()
            .get(path)
            .await
            .is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn nobody_makes_a_token_for_someone_else() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let path = "/_matrix/client/v3/user/@bob:parley.test/openid/request_token";
        alice
            .post(path, json!({}))
            .await
            .is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn a_token_ends_with_its_time_or_its_account() {
    let options = || TestOptions {
        clock: Some(Arc::new(ManualClock::new(1_700_000_000_000))),
        ..TestOptions::default()
    };
    on_each_engine_with(options, async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let (of_alice, of_bob) = (token(&alice).await, token(&bob).await);
        let user_id = ruma::UserId::parse(&bob.user_id).unwrap();
        let accounts = server.engine().accounts();
        accounts.deactivate(&user_id, false).await.unwrap();
        exchange(&bob, &of_bob)
            .await
            .is_refused(401, "M_UNKNOWN_TOKEN");
        exchange(&alice, &of_alice).await.ok();
        server.clock().advance(Duration::from_secs(3600));
        exchange(&alice, &of_alice)
            .await
            .is_refused(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}
