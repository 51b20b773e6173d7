//! What the server says about itself.

use parley_client_api::WellKnownSettings;
use parley_conformance::{TestOptions, on_each_engine, on_each_engine_with};
use ruma::{server_name, user_id};
use serde_json::json;

#[tokio::test]
async fn versions_are_told_to_anyone() {
    on_each_engine(async |server| {
        let answer = server.client().get("/_matrix/client/versions").await.ok();
        let versions = answer["versions"].as_array().unwrap();
        for version in ["r0.6.1", "v1.1", "v1.11", "v1.12"] {
            assert!(versions.contains(&version.into()), "{answer}");
        }
        // Only the newest of each minor version of old.
        assert!(!versions.contains(&"r0.6.0".into()), "{answer}");
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
        for file in ["client", "server", "support"] {
            let answer = server
                .client()
                .get(&format!("/.well-known/matrix/{file}"))
                .await;
            answer.is_refused(404, "M_NOT_FOUND");
        }
    })
    .await;
}

#[tokio::test]
async fn the_well_known_file_names_the_address() {
    let options = || {
        let mut options = TestOptions::default();
        options.client_api.well_known.homeserver_url =
            Some("https://matrix.parley.test".to_owned());
        options
    };
    on_each_engine_with(options, async |server| {
        let answer = server.client().get("/.well-known/matrix/client").await;
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        let answer = answer.ok();
        let expected = json!({ "m.homeserver": { "base_url": "https://matrix.parley.test" } });
        assert_eq!(answer, expected);
    })
    .await;
}

/// The settings with one of the well-known files.
fn with_well_known(set: impl Fn(&mut WellKnownSettings)) -> TestOptions {
    let mut options = TestOptions::default();
    set(&mut options.client_api.well_known);
    options
}

#[tokio::test]
async fn other_servers_are_told_where_this_one_is() {
    let options = || {
        with_well_known(|files| files.server = Some(server_name!("matrix.parley.test:443").into()))
    };
    on_each_engine_with(options, async |server| {
        let answer = server.client().get("/.well-known/matrix/server").await.ok();
        assert_eq!(answer, json!({ "m.server": "matrix.parley.test:443" }));
    })
    .await;
}

#[tokio::test]
async fn who_needs_help_is_told_whom_to_ask() {
    let options = || {
        with_well_known(|files| {
            files.support_user = Some(user_id!("@admin:parley.test").into());
            files.support_email = Some("admin@parley.test".to_owned());
            files.support_page = Some("https://parley.test/help".to_owned());
        })
    };
    on_each_engine_with(options, async |server| {
        let answer = server.client().get("/.well-known/matrix/support").await;
        let contact = json!({
            "role": "m.role.admin",
            "matrix_id": "@admin:parley.test",
            "email_address": "admin@parley.test",
        });
        let page = "https://parley.test/help";
        assert_eq!(
            answer.ok(),
            json!({ "contacts": [contact], "support_page": page })
        );
        server.options_mut().client_api.well_known = WellKnownSettings {
            support_email: Some("admin@parley.test".to_owned()),
            ..WellKnownSettings::default()
        };
        server.restart().await;
        let answer = server.client().get("/.well-known/matrix/support").await;
        let contact = json!({ "role": "m.role.admin", "email_address": "admin@parley.test" });
        assert_eq!(answer.ok(), json!({ "contacts": [contact] }));
    })
    .await;
}

#[tokio::test]
async fn clients_are_told_which_service_carries_calls() {
    const PATH: &str = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports";
    let options = || {
        with_well_known(|files| {
            files.homeserver_url = Some("https://matrix.parley.test".to_owned());
            files.livekit_service_url = Some("https://livekit.parley.test".to_owned());
        })
    };
    on_each_engine_with(options, async |server| {
        let service = json!({
            "type": "livekit",
            "livekit_service_url": "https://livekit.parley.test",
        });
        let file = server.client().get("/.well-known/matrix/client").await.ok();
        assert_eq!(file["org.matrix.msc4143.rtc_foci"], json!([service]));
        let alice = server.register("alice").await;
        assert_eq!(
            alice.get(PATH).await.ok(),
            json!({ "rtc_transports": [service] })
        );
        server
            .client()
            .get(PATH)
            .await
            .is_refused(401, "M_MISSING_TOKEN");
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
