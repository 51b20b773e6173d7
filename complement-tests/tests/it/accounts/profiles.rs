//! What users tell about themselves.

use parley_conformance::{Answer, Client, on_each_engine};
use parley_storage::profiles;
use serde_json::{Value, json};

use crate::rooms::{create_public, get_state, quoted};

fn path(client: &Client, field: &str) -> String {
    format!("/_matrix/client/v3/profile/{}/{field}", client.user_id)
}

async fn set(client: &Client, field: &str, value: Value) -> Answer {
    client
        .put(&path(client, field), json!({ field: value }))
        .await
}

async fn profile(client: &Client) -> Value {
    let path = format!("/_matrix/client/v3/profile/{}", client.user_id);
    client.without_token().get(&path).await.ok()
}

#[tokio::test]
async fn a_name_and_a_picture_are_shown_to_anyone() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        assert_eq!(profile(&alice).await, json!({}));
        let answer = set(&alice, "displayname", "LemurLover".into()).await;
        assert_eq!(answer.ok(), json!({}));
        set(&alice, "avatar_url", "mxc://parley.test/pic".into())
            .await
            .ok();
        let stranger = alice.without_token();
        let answer = stranger.get(&path(&alice, "displayname")).await;
        assert_eq!(answer.ok(), json!({ "displayname": "LemurLover" }));
        let all = json!({ "avatar_url": "mxc://parley.test/pic", "displayname": "LemurLover" });
        assert_eq!(profile(&alice).await, all);
    })
    .await;
}

#[tokio::test]
async fn a_field_that_is_not_set_and_a_user_who_does_not_exist_are_not_found() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for path in [
            path(&alice, "displayname"),
            path(&alice, "org.example.field"),
            path(&alice, "%00"),
            "/_matrix/client/v3/profile/@nobody:parley.test".to_owned(),
            "/_matrix/client/v3/profile/@nobody:parley.test/displayname".to_owned(),
        ] {
            let answer = alice.get(&path).await;
            assert!(
                matches!(answer.status.as_u16(), 400 | 404),
                "{path}: {answer:?}"
            );
        }
        let answer = alice.get(&path(&alice, "displayname")).await;
        answer.is_refused(404, "M_NOT_FOUND");
        let answer = alice.get("/_matrix/client/v3/profile/nobody").await;
        answer.is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn an_empty_name_and_null_remove_it() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for nothing in [json!(""), Value::Null] {
            set(&alice, "displayname", "Alice".into()).await.ok();
            set(&alice, "displayname", nothing).await.ok();
            assert_eq!(profile(&alice).await, json!({}));
        }
    })
    .await;
}

#[tokio::test]
async fn fields_of_ones_own_hold_any_json() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let value = json!({ "list": [1, null, "nul\0", "ä"], "flag": true });
        set(&alice, "org.example.field", value.clone()).await.ok();
        set(&alice, "m.tz", "Europe/Berlin".into()).await.ok();
        let expected = json!({ "m.tz": "Europe/Berlin", "org.example.field": value });
        assert_eq!(profile(&alice).await, expected);
        let field = path(&alice, "org.example.field");
        for _ in 0..2 {
            // Also where it isn't set any more.
            assert_eq!(alice.delete(&field, json!({})).await.ok(), json!({}));
        }
        assert_eq!(profile(&alice).await, json!({ "m.tz": "Europe/Berlin" }));
    })
    .await;
}

#[tokio::test]
async fn a_profile_outlives_a_restart() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        set(&alice, "displayname", "Alice".into()).await.ok();
        server.restart().await;
        assert_eq!(profile(&alice).await, json!({ "displayname": "Alice" }));
    })
    .await;
}

/// The name that a user has in a room.
async fn name_in(client: &Client, room_id: &str) -> Value {
    let member = get_state(client, room_id, "m.room.member", &client.user_id).await;
    member.ok()["displayname"].clone()
}

#[tokio::test]
async fn rooms_that_were_not_told_of_a_change_before_a_crash_are_told_after_it() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        set(&alice, "displayname", "Alice".into()).await.ok();
        let rooms = [create_public(&alice).await, create_public(&alice).await];
        let since = alice.get("/_matrix/client/v3/sync").await.ok();
        let since = since["next_batch"].as_str().unwrap().to_owned();
        // The change is stored, and then there's a power cut.
        let user_id = ruma::UserId::parse(&alice.user_id).unwrap();
        let account = server.engine().accounts().find(&user_id).await.unwrap();
        let user_nid = account.unwrap().user_nid;
        let mut transaction = server.database().write().await.unwrap();
        profiles::set(&mut transaction, user_nid, "displayname", "\"Alicia\"")
            .await
            .unwrap();
        profiles::note_change(&mut transaction, user_nid)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        server.restart().await;
        for room_id in &rooms {
            let path = format!("/_matrix/client/v3/sync?since={since}&timeout=10000");
            while name_in(&alice, room_id).await != "Alicia" {
                alice.get(&path).await.ok();
            }
        }
        // That they have been told is noted after the last of them.
        let database = server.database();
        while !database.untold_profiles().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn of_two_changes_at_once_all_rooms_have_the_one_that_the_profile_has() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let mut rooms = Vec::new();
        for _ in 0..10 {
            rooms.push(create_public(&alice).await);
        }
        let changes = (0..4).map(|count| set(&alice, "displayname", format!("{count}").into()));
        for answer in futures::future::join_all(changes).await {
            answer.ok();
        }
        let name = profile(&alice).await["displayname"].clone();
        for room_id in &rooms {
            assert_eq!(name_in(&alice, room_id).await, name);
        }
    })
    .await;
}

#[tokio::test]
async fn why_somebody_joined_is_no_part_of_what_they_are_called_later() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        let path = format!("/_matrix/client/v3/join/{}", quoted(&room_id));
        bob.post(&path, json!({ "reason": "curious" })).await.ok();
        set(&bob, "displayname", "Bob".into()).await.ok();
        let member = get_state(&bob, &room_id, "m.room.member", &bob.user_id).await;
        let expected = json!({ "membership": "join", "displayname": "Bob" });
        assert_eq!(member.ok(), expected);
    })
    .await;
}

#[tokio::test]
async fn what_a_field_cannot_be_is_refused() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for field in ["unknown", "Org.example", "org.example.F%C3%A4", "1.example"] {
            let answer = alice
                .put(
                    &path(&alice, field),
                    json!({ field: "x", "org.example.Fä": 1 }),
                )
                .await;
            answer.is_refused(400, "M_INVALID_PARAM");
            let answer = alice.delete(&path(&alice, field), json!({})).await;
            answer.is_refused(400, "M_INVALID_PARAM");
        }
        let long = format!("org.{}", "x".repeat(252));
        set(&alice, &long, 1.into())
            .await
            .is_refused(400, "M_KEY_TOO_LARGE");
        set(&alice, "displayname", 1.into())
            .await
            .is_refused(400, "M_BAD_JSON");
        set(&alice, "displayname", "x".repeat(513).into())
            .await
            .is_refused(400, "M_INVALID_PARAM");
        let answer = alice.put(&path(&alice, "displayname"), json!({})).await;
        answer.is_refused(400, "M_MISSING_PARAM");
        assert_eq!(profile(&alice).await, json!({}));
    })
    .await;
}

#[tokio::test]
async fn a_profile_is_smaller_than_64_kib() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let half = "x".repeat(32 * 1024);
        set(&alice, "org.example.a", half.clone().into()).await.ok();
        let answer = set(&alice, "org.example.b", half.into()).await;
        answer.is_refused(400, "M_PROFILE_TOO_LARGE");
        set(&alice, "displayname", "Alice".into()).await.ok();
        assert_eq!(profile(&alice).await["org.example.b"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn nobody_changes_the_profile_of_someone_else() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let name = path(&alice, "displayname");
        let answer = bob.put(&name, json!({ "displayname": "Malice" })).await;
        answer.is_refused(403, "M_FORBIDDEN");
        let answer = bob.delete(&name, json!({})).await;
        answer.is_refused(403, "M_FORBIDDEN");
        let stranger = server.client();
        let answer = stranger.put(&name, json!({ "displayname": "x" })).await;
        answer.is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_suspended_user_changes_nothing() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let user_id = ruma::UserId::parse(&alice.user_id).unwrap();
        let accounts = server.engine().accounts();
        accounts.set_suspended(&user_id, true).await.unwrap();
        let answer = set(&alice, "displayname", "Alice".into()).await;
        answer.is_refused(403, "M_USER_SUSPENDED");
    })
    .await;
}

#[tokio::test]
async fn a_new_name_is_told_in_every_room() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let base = "/_matrix/client/v3";
        let mut rooms = Vec::new();
        for _ in 0..2 {
            let room = alice
                .post(&format!("{base}/createRoom"), json!({}))
                .await
                .ok();
            rooms.push(room["room_id"].as_str().unwrap().to_owned());
        }
        set(&alice, "displayname", "Alice".into()).await.ok();
        set(&alice, "avatar_url", "mxc://parley.test/a".into())
            .await
            .ok();
        let expected = json!({
            "membership": "join",
            "displayname": "Alice",
            "avatar_url": "mxc://parley.test/a",
        });
        for room in &rooms {
            let path = format!("{base}/rooms/{room}/state/m.room.member/{}", alice.user_id);
            let told = async {
                while alice.get(&path).await.ok() != expected {
                    tokio::task::yield_now().await;
                }
            };
            let patience = std::time::Duration::from_secs(10);
            tokio::time::timeout(patience, told).await.expect(room);
        }
        // And from the beginning in those that come after.
        let room = alice
            .post(&format!("{base}/createRoom"), json!({}))
            .await
            .ok();
        let room = room["room_id"].as_str().unwrap();
        let path = format!("{base}/rooms/{room}/state/m.room.member/{}", alice.user_id);
        assert_eq!(alice.get(&path).await.ok(), expected);
    })
    .await;
}

#[tokio::test]
async fn the_same_name_again_is_no_news() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let base = "/_matrix/client/v3";
        let room = alice.post(&format!("{base}/createRoom"), json!({})).await;
        let room = room.ok()["room_id"].as_str().unwrap().to_owned();
        for name in ["Alice", "Alice", "Alice", "Alys"] {
            set(&alice, "displayname", name.into()).await.ok();
        }
        // The last is told after what there was to tell of the others.
        let path = format!("{base}/rooms/{room}/state/m.room.member/{}", alice.user_id);
        let told = async {
            while alice.get(&path).await.ok()["displayname"] != "Alys" {
                tokio::task::yield_now().await;
            }
        };
        let patience = std::time::Duration::from_secs(10);
        tokio::time::timeout(patience, told).await.unwrap();
        let filter = r#"{"types":["m.room.member"]}"#.replace('"', "%22");
        let path = format!("{base}/rooms/{room}/messages?dir=b&filter={filter}");
        let page = alice.get(&path).await.ok();
        let members = page["chunk"].as_array().unwrap().len();
        assert!(members <= 3, "{page}");
    })
    .await;
}
