//! Where notifications are pushed to.

use parley_conformance::{Answer, Client, PASSWORD, on_each_engine};
use serde_json::{Value, json};

use crate::rooms::BASE;

fn pusher(key: &str) -> Value {
    json!({
        "app_display_name": "App",
        "app_id": "org.example.app",
        "data": { "format": "event_id_only", "url": "https://push.example/_matrix/push/v1/notify" },
        "device_display_name": "Phone",
        "kind": "http",
        "lang": "en",
        "profile_tag": "tag",
        "pushkey": key,
    })
}

async fn set(client: &Client, pusher: Value) -> Answer {
    client.post(&format!("{BASE}/pushers/set"), pusher).await
}

async fn pushers(client: &Client) -> Value {
    client.get(&format!("{BASE}/pushers")).await.ok()["pushers"].clone()
}

#[tokio::test]
async fn a_pusher_is_set_changed_and_removed() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        assert_eq!(pushers(&alice).await, json!([]));
        assert_eq!(set(&alice, pusher("one")).await.ok(), json!({}));
        set(&alice, pusher("two")).await.ok();
        assert_eq!(pushers(&alice).await, json!([pusher("one"), pusher("two")]));
        let mut changed = pusher("one");
        changed["lang"] = "de".into();
        set(&alice, changed.clone()).await.ok();
        assert_eq!(pushers(&alice).await, json!([changed, pusher("two")]));
        for key in ["one", "two", "two"] {
            let gone = json!({ "app_id": "org.example.app", "kind": null, "pushkey": key });
            set(&alice, gone).await.ok();
        }
        assert_eq!(pushers(&alice).await, json!([]));
    })
    .await;
}

#[tokio::test]
async fn an_installation_is_one_users_unless_it_says_otherwise() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        set(&alice, pusher("one")).await.ok();
        let mut beside = pusher("one");
        beside["append"] = true.into();
        set(&bob, beside).await.ok();
        assert_eq!(pushers(&alice).await, json!([pusher("one")]));
        assert_eq!(pushers(&bob).await, json!([pusher("one")]));
        set(&bob, pusher("one")).await.ok();
        assert_eq!(pushers(&alice).await, json!([]));
    })
    .await;
}

#[tokio::test]
async fn pushers_go_with_the_device_that_made_them() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let other = alice.log_in_again().await;
        set(&other, pusher("other")).await.ok();
        set(&alice, pusher("own")).await.ok();
        let change = json!({
            "auth": {
                "type": "m.login.password",
                "identifier": { "type": "m.id.user", "user": alice.user_id },
                "password": PASSWORD,
            },
            "new_password": "another long password",
        });
        alice
            .post(&format!("{BASE}/account/password"), change)
            .await
            .ok();
        assert_eq!(pushers(&alice).await, json!([pusher("own")]));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_pushed_to_is_refused() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let with = |key: &str, value: Value| {
            let mut pusher = pusher("one");
            pusher[key] = value;
            pusher
        };
        for wrong in [
            with("pushkey", "k".repeat(513).into()),
            with("app_id", "a".repeat(65).into()),
            with("kind", "email".into()),
            with("kind", "pigeon".into()),
            with("data", json!({ "url": "https://push.example/" })),
        ] {
            set(&alice, wrong).await.is_refused(400, "M_INVALID_PARAM");
        }
        let answer = set(&alice, with("data", json!({}))).await;
        assert_eq!(answer.status, 400);
        assert_eq!(pushers(&alice).await, json!([]));
    })
    .await;
}
