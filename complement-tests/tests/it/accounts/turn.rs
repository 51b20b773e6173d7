//! Credentials for the servers that relay calls.

use std::{sync::Arc, time::Duration};

use parley_conformance::{TestOptions, on_each_engine, on_each_engine_with};
use parley_engine::{
    clock::ManualClock,
    settings::{Secret, TurnAccess, TurnSettings},
};
use serde_json::json;

const TURN_SERVER: &str = "/_matrix/client/v3/voip/turnServer";

fn options(access: TurnAccess) -> TestOptions {
    let mut options = TestOptions {
        clock: Some(Arc::new(ManualClock::new(1_000_000_000))),
        ..TestOptions::default()
    };
    options.engine.turn = Some(TurnSettings {
        uris: vec!["turn:turn.example.org?transport=udp".to_owned()],
        access,
        lifetime: Duration::from_secs(600),
        guests: false,
    });
    options
}

#[tokio::test]
async fn clients_get_credentials_that_a_turn_server_can_check() {
    let options = || options(TurnAccess::SharedSecret(Secret::new("north")));
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let answer = alice.get(TURN_SERVER).await.ok();
        assert_eq!(answer["username"], format!("1000600:{}", alice.user_id));
        assert_eq!(answer["password"].as_str().unwrap().len(), 28);
        assert_eq!(answer["ttl"], 600);
        assert_eq!(
            answer["uris"],
            json!(["turn:turn.example.org?transport=udp"])
        );
        let answer = server.client().get(TURN_SERVER).await;
        answer.is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn one_name_for_all_users_is_told_as_it_is() {
    let options = || {
        options(TurnAccess::Password {
            username: "parley".to_owned(),
            password: Secret::new("relay"),
        })
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let answer = alice.get(TURN_SERVER).await.ok();
        assert_eq!(
            (&answer["username"], &answer["password"]),
            (&json!("parley"), &json!("relay"))
        );
    })
    .await;
}

#[tokio::test]
async fn calls_of_guests_are_relayed_only_where_that_is_wanted() {
    let options = |guests: bool| {
        let mut options = options(TurnAccess::SharedSecret(Secret::new("north")));
        options.engine.registration.guests = true;
        options.engine.turn.as_mut().unwrap().guests = guests;
        options
    };
    on_each_engine_with(
        || options(true),
        async |server| {
            let guest = super::guests::guest(server).await;
            guest.get(TURN_SERVER).await.ok();
        },
    )
    .await;
    on_each_engine_with(
        || options(false),
        async |server| {
            let guest = super::guests::guest(server).await;
            let answer = guest.get(TURN_SERVER).await;
            answer.is_refused(403, "M_GUEST_ACCESS_FORBIDDEN");
        },
    )
    .await;
}

#[tokio::test]
async fn without_turn_servers_there_are_no_credentials() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        alice.get(TURN_SERVER).await.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}
