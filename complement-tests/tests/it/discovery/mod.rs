//! What the server says about itself.

use parley_conformance::{TestOptions, on_each_engine, on_each_engine_with};

#[tokio::test]
async fn versions_are_told_to_anyone() {
    on_each_engine(async |server| {
        let answer = server.client().get("/_matrix/client/versions").await.ok();
        let versions = answer["versions"].as_array().unwrap();
        assert!(versions.contains(&"v1.19".into()), "{answer}");
        let features = answer["unstable_features"].as_object().unwrap();
        assert!(features.values().all(serde_json::Value::is_boolean));
    })
    .await;
}

#[tokio::test]
async fn versions_are_refused_to_a_token_that_is_not_known() {
    on_each_engine(async |server| {
        let client = server.client().with_token("stale");
        let answer = client.get("/_matrix/client/versions").await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_was_not_told_its_address_has_no_well_known_file() {
    on_each_engine(async |server| {
        let answer = server.client().get("/.well-known/matrix/client").await;
        answer.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn the_well_known_file_names_the_address() {
    let options = || {
        let mut options = TestOptions::default();
        options.client_api.homeserver_url = Some("https://matrix.parley.test".to_owned());
        options
    };
    on_each_engine_with(options, async |server| {
        let answer = server.client().get("/.well-known/matrix/client").await;
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        let answer = answer.ok();
        assert_eq!(
            answer["m.homeserver"]["base_url"],
            "https://matrix.parley.test"
        );
    })
    .await;
}

#[tokio::test]
async fn capabilities_are_for_users_only() {
    on_each_engine(async |server| {
        let answer = server.client().get("/_matrix/client/v3/capabilities").await;
        answer.is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn capabilities_name_the_room_versions_and_that_passwords_can_be_changed() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let answer = alice.get("/_matrix/client/v3/capabilities").await.ok();
        let capabilities = &answer["capabilities"];
        assert_eq!(capabilities["m.change_password"]["enabled"], true);
        let versions = &capabilities["m.room_versions"];
        let default = versions["default"].as_str().unwrap();
        assert_eq!(versions["available"][default], "stable");
    })
    .await;
}
