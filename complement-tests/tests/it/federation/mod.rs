//! Several servers, and what they are to each other.

mod acl;
mod bodies;
mod check;
mod discovery;
mod failing;
mod giver;
mod hostile;
mod inbox;
mod keys;
mod lacking;
mod memberships;
mod notifications;
mod owned_state;
mod partial;
mod policy;
mod queries;
mod reading_back;
mod rooms;
mod sending;
mod signatures;
mod spaces;
mod third_party;
mod user_directory;
mod versions;
mod vouching;

use parley_conformance::{authority_pem, federated};

/// What a program that trusts the tests' authority is answered.
async fn ask(url: String) -> reqwest::Result<serde_json::Value> {
    let authority = reqwest::Certificate::from_pem(authority_pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([authority]);
    let response = client.build().unwrap().get(url).send().await?;
    response.json().await
}

#[tokio::test]
async fn each_server_answers_under_its_own_name() {
    federated(2, async |servers| {
        assert_ne!(servers[0].name(), servers[1].name());
        for server in &mut *servers {
            let url = format!("https://{}/_matrix/federation/v1/version", server.name());
            assert_eq!(ask(url.clone()).await.unwrap()["server"]["name"], "Parley");
            server.stop().await;
            assert!(ask(url.clone()).await.is_err());
            server.start_again().await;
            assert_eq!(ask(url).await.unwrap()["server"]["name"], "Parley");
            let user = server.register("alice").await;
            assert_eq!(user.user_id, format!("@alice:{}", server.name()));
        }
    })
    .await;
}
