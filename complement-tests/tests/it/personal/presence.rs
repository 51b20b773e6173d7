//! Who is online.

use std::{sync::Arc, time::Duration};

use parley_conformance::{Answer, Client, TestOptions, on_each_engine, on_each_engine_with};
use parley_engine::{
    clock::ManualClock,
    settings::{RateLimit, RateLimitSettings},
};
use serde_json::{Value, json};

use super::{nothing, room_of_two, sync, sync_until, token};
use crate::rooms::{BASE, create_public, join, quoted};

fn path(client: &Client) -> String {
    format!("{BASE}/presence/{}/status", quoted(&client.user_id))
}

async fn set(client: &Client, body: Value) -> Answer {
    client.put(&path(client), body).await
}

/// What a /sync tells of a user's presence.
fn presence(answer: &Value, client: &Client) -> Option<Value> {
    let events = answer["presence"]["events"].as_array()?;
    let mut of_user = events
        .iter()
        .filter(|event| event["sender"] == client.user_id.as_str());
    let found = of_user.next()?;
    assert!(of_user.next().is_none(), "two events of one user: {answer}");
    assert_eq!(found["type"], "m.presence");
    Some(found["content"].clone())
}

#[tokio::test]
async fn presence_is_set_and_read() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let own = alice.get(&path(&alice)).await.ok();
        assert_eq!(own["presence"], "offline");
        let body = json!({ "presence": "online", "status_msg": "Testing" });
        assert_eq!(set(&alice, body).await.ok(), json!({}));
        let own = alice.get(&path(&alice)).await.ok();
        assert_eq!(own["presence"], "online");
        assert_eq!(own["status_msg"], "Testing");
        assert_eq!(own["currently_active"], true);
        assert!(own["last_active_ago"].is_u64());
    })
    .await;
}

#[tokio::test]
async fn it_is_for_those_who_share_a_room() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        set(&alice, json!({ "presence": "online" })).await.ok();
        bob.get(&path(&alice)).await.is_refused(403, "M_FORBIDDEN");
        bob.put(&path(&alice), json!({ "presence": "offline" }))
            .await
            .is_refused(403, "M_FORBIDDEN");
        assert_eq!(presence(&sync(&bob, None, "").await, &alice), None);
        room_of_two(&alice, &bob).await;
        assert_eq!(bob.get(&path(&alice)).await.ok()["presence"], "online");
    })
    .await;
}

#[tokio::test]
async fn changes_wake_those_who_share_a_room() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        room_of_two(&alice, &bob).await;
        let since = token(&bob).await;
        let waiting = sync_until(&bob, &since, |answer| presence(answer, &alice));
        let body = json!({ "presence": "online", "status_msg": "here" });
        let (found, put) = tokio::join!(waiting, set(&alice, body));
        put.ok();
        assert_eq!(found.0["presence"], "online");
        assert_eq!(found.0["status_msg"], "here");
        set(&alice, json!({ "presence": "unavailable" })).await.ok();
        let answer = sync(&bob, Some(&found.1), "").await;
        let told = presence(&answer, &alice).unwrap();
        assert_eq!(told["presence"], "unavailable");
        assert!(told.get("status_msg").is_none());
        // The same token tells the same again.
        let again = sync(&bob, Some(&found.1), "").await;
        assert_eq!(presence(&again, &alice).unwrap()["presence"], "unavailable");
    })
    .await;
}

#[tokio::test]
async fn a_sync_says_that_its_user_is_there() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        room_of_two(&alice, &bob).await;
        let since = token(&bob).await;
        sync(&alice, None, "&set_presence=offline").await;
        assert_eq!(presence(&sync(&bob, Some(&since), "").await, &alice), None);
        sync(&alice, None, "&set_presence=unavailable").await;
        let answer = sync(&bob, Some(&since), "").await;
        assert_eq!(
            presence(&answer, &alice).unwrap()["presence"],
            "unavailable"
        );
        sync(&alice, None, "").await;
        let answer = sync(&bob, Some(&since), "").await;
        assert_eq!(presence(&answer, &alice).unwrap()["presence"], "online");
    })
    .await;
}

#[tokio::test]
async fn who_newly_shares_a_room_is_told_to_each_other() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        let (alice_since, bob_since) = (token(&alice).await, token(&bob).await);
        join(&bob, &room_id).await.ok();
        for since in [Some(alice_since.as_str()), None] {
            let answer = sync(&alice, since, "").await;
            assert_eq!(presence(&answer, &bob).unwrap()["presence"], "online");
        }
        let answer = sync(&bob, Some(&bob_since), "").await;
        assert_eq!(presence(&answer, &alice).unwrap()["presence"], "online");
    })
    .await;
}

fn with_clock() -> TestOptions {
    TestOptions {
        clock: Some(Arc::new(ManualClock::new(1_700_000_000_000))),
        ..TestOptions::default()
    }
}

#[tokio::test]
async fn who_stays_away_goes_offline_and_keeps_their_message() {
    let options = || {
        let mut options = with_clock();
        options.engine.presence.offline_after = Duration::from_millis(50);
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        room_of_two(&alice, &bob).await;
        let body = json!({ "presence": "online", "status_msg": "lunch" });
        set(&alice, body).await.ok();
        let since = token(&bob).await;
        server.clock().advance(Duration::from_millis(50));
        let offline = |answer: &Value| {
            presence(answer, &alice).filter(|content| content["presence"] == "offline")
        };
        let (told, _) = sync_until(&bob, &since, offline).await;
        assert_eq!(told["status_msg"], "lunch");
        assert_eq!(told["last_active_ago"], 50);
        server.restart().await;
        let after = bob.get(&path(&alice)).await.ok();
        assert_eq!(after["presence"], "offline");
        assert_eq!(after["status_msg"], "lunch");
        let all = sync(&bob, None, "").await;
        assert_eq!(presence(&all, &alice), None);
    })
    .await;
}

#[tokio::test]
async fn where_it_is_switched_off_everyone_is_offline() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.presence.enabled = false;
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        room_of_two(&alice, &bob).await;
        set(&alice, json!({ "presence": "online" })).await.ok();
        assert_eq!(
            bob.get(&path(&alice)).await.ok(),
            json!({ "presence": "offline" })
        );
        let all = sync(&bob, None, "").await;
        assert_eq!(presence(&all, &alice), None);
        assert_eq!(presence(&all, &bob), None);
    })
    .await;
}

#[tokio::test]
async fn what_is_no_presence_is_refused() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let answer = set(&alice, json!({ "presence": "asleep" })).await;
        answer.is_refused(400, "M_INVALID_PARAM");
        set(&alice, nothing()).await.is_refused(400, "M_BAD_JSON");
        let long = json!({ "presence": "online", "status_msg": "x".repeat(5_000) });
        set(&alice, long).await.is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn a_sync_says_a_presence_that_there_is() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for presence in ["online", "unavailable", "offline"] {
            let path = format!("{BASE}/sync?timeout=0&set_presence={presence}");
            alice.get(&path).await.ok();
        }
        let answer = alice.get(&format!("{BASE}/sync?set_presence=asleep")).await;
        answer.is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn a_presence_that_changes_too_often_is_passed_over() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rate_limits = RateLimitSettings {
            enabled: true,
            ephemeral: RateLimit::new(0.001, 1),
            ..RateLimitSettings::default()
        };
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        room_of_two(&alice, &bob).await;
        let seen = async |asked: &str| {
            sync(&alice, None, &format!("&set_presence={asked}")).await;
            bob.get(&path(&alice)).await.ok()["presence"].clone()
        };
        assert_eq!(seen("unavailable").await, "unavailable");
        assert_eq!(seen("online").await, "online");
        assert_eq!(seen("unavailable").await, "online");
    })
    .await;
}

#[tokio::test]
async fn switched_off_at_a_restart_it_tells_nothing_of_who_was_there() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        room_of_two(&alice, &bob).await;
        let body = json!({ "presence": "online", "status_msg": "here" });
        set(&alice, body).await.ok();
        let before = sync(&bob, None, "").await;
        assert_eq!(presence(&before, &alice).unwrap()["status_msg"], "here");
        server.options_mut().engine.presence.enabled = false;
        server.restart().await;
        for reader in [&alice, &bob] {
            let told = reader.get(&path(&alice)).await.ok();
            assert_eq!(told, json!({ "presence": "offline" }));
        }
        let since = before["next_batch"].as_str();
        for since in [None, since] {
            assert_eq!(presence(&sync(&bob, since, "").await, &alice), None);
        }
        server.options_mut().engine.presence.enabled = true;
        server.restart().await;
        set(&alice, json!({ "presence": "online" })).await.ok();
        let told = sync(&bob, None, "").await;
        assert_eq!(presence(&told, &alice).unwrap()["presence"], "online");
    })
    .await;
}
