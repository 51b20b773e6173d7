//! Who is typing.

use std::{sync::Arc, time::Duration};

use parley_conformance::{Answer, Client, TestOptions, on_each_engine, on_each_engine_with};
use parley_engine::clock::ManualClock;
use serde_json::{Value, json};

use super::{content, joined, next, room_of_two, sync, sync_until, token};
use crate::rooms::{act_self, quoted, room_path, say};

async fn types(client: &Client, room_id: &str, body: Value) -> Answer {
    let path = format!("typing/{}", quoted(&client.user_id));
    client.put(&room_path(room_id, &path), body).await
}

/// Who types in a room, by a /sync.
fn typing(answer: &Value, room_id: &str) -> Option<Value> {
    let events = &joined(answer, room_id)["ephemeral"]["events"];
    Some(content(events, "m.typing")?["user_ids"].clone())
}

#[tokio::test]
async fn others_see_who_types_and_that_they_stopped() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let since = token(&bob).await;
        let waiting = sync_until(&bob, &since, |answer| typing(answer, &room_id));
        let body = json!({ "typing": true, "timeout": 30_000 });
        let (found, put) = tokio::join!(waiting, types(&alice, &room_id, body));
        assert_eq!(put.ok(), json!({}));
        assert_eq!(found.0, json!([alice.user_id]));
        let all = sync(&bob, None, "").await;
        assert_eq!(typing(&all, &room_id), Some(json!([alice.user_id])));
        types(&alice, &room_id, json!({ "typing": false }))
            .await
            .ok();
        for since in [&since, &found.1] {
            let answer = sync(&bob, Some(since), "").await;
            assert_eq!(typing(&answer, &room_id), Some(json!([])), "since {since}");
        }
        let timeless = json!({ "typing": true, "timeout": 0 });
        types(&alice, &room_id, timeless).await.ok();
        let answer = sync(&bob, Some(&since), "").await;
        assert_eq!(typing(&answer, &room_id), Some(json!([])));
    })
    .await;
}

#[tokio::test]
async fn typing_ends_by_itself() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let since = token(&bob).await;
        let body = json!({ "typing": true, "timeout": 100 });
        types(&alice, &room_id, body).await.ok();
        let ended = |answer: &Value| typing(answer, &room_id).filter(|users| *users == json!([]));
        sync_until(&bob, &since, ended).await;
    })
    .await;
}

#[tokio::test]
async fn who_leaves_does_not_type_any_more_and_who_sends_may_go_on() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let body = json!({ "typing": true, "timeout": 30_000 });
        types(&bob, &room_id, body).await.ok();
        let since = token(&alice).await;
        say(&bob, &room_id, "hello").await;
        let answer = sync(&alice, None, "").await;
        assert_eq!(typing(&answer, &room_id), Some(json!([bob.user_id])));
        act_self(&bob, &room_id, "leave").await.ok();
        let answer = sync(&alice, Some(&since), "").await;
        assert_eq!(typing(&answer, &room_id), Some(json!([])));
    })
    .await;
}

#[tokio::test]
async fn nobody_types_for_another_or_where_they_are_not() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let room_id = room_of_two(&alice, &bob).await;
        let since = token(&carol).await;
        let body = json!({ "typing": true, "timeout": 30_000 });
        let path = room_path(&room_id, &format!("typing/{}", quoted(&alice.user_id)));
        bob.put(&path, body.clone())
            .await
            .is_refused(403, "M_FORBIDDEN");
        types(&carol, &room_id, body.clone())
            .await
            .is_refused(403, "M_FORBIDDEN");
        types(&alice, &room_id, body).await.ok();
        let answer = sync(&carol, Some(&since), "").await;
        assert!(answer["rooms"]["join"].get(&room_id).is_none());
    })
    .await;
}

#[tokio::test]
async fn who_was_away_for_long_is_told_that_typing_ended_meanwhile() {
    let options = || TestOptions {
        clock: Some(Arc::new(ManualClock::new(1_700_000_000_000))),
        ..TestOptions::default()
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let body = json!({ "typing": true, "timeout": 30_000 });
        types(&alice, &room_id, body).await.ok();
        let told = sync(&bob, None, "").await;
        assert_eq!(typing(&told, &room_id), Some(json!([alice.user_id])));
        // What changed for Bob isn't noted any more.
        server.clock().advance(Duration::from_secs(60 * 60));
        server.engine().sync().drop_idle();
        types(&alice, &room_id, json!({ "typing": false }))
            .await
            .ok();
        let told = sync(&bob, Some(&next(&told)), "").await;
        assert_eq!(typing(&told, &room_id), Some(json!([])));
        let told = sync(&bob, Some(&next(&told)), "").await;
        assert_eq!(typing(&told, &room_id), None);
    })
    .await;
}

#[tokio::test]
async fn nobody_types_any_more_when_the_server_stops() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let body = json!({ "typing": true, "timeout": 30_000 });
        types(&alice, &room_id, body).await.ok();
        let since = token(&bob).await;
        // What a stop does before it has the long polls answered.
        server.engine().typing().end_all();
        let answer = sync(&bob, Some(&since), "").await;
        assert_eq!(typing(&answer, &room_id), Some(json!([])));
    })
    .await;
}

#[tokio::test]
async fn who_types_need_not_say_for_how_long() {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let options = || TestOptions {
        clock: Some(clock.clone()),
        ..TestOptions::default()
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        types(&alice, &room_id, json!({ "typing": true }))
            .await
            .ok();
        let answer = sync(&bob, None, "").await;
        assert_eq!(typing(&answer, &room_id), Some(json!([alice.user_id])));
        for body in [
            json!({}),
            json!({ "typing": "yes" }),
            json!({ "timeout": 1 }),
            json!({ "typing": true, "timeout": -1 }),
            json!({ "typing": true, "timeout": "long" }),
        ] {
            let answer = types(&alice, &room_id, body).await;
            answer.is_refused(400, "M_BAD_JSON");
        }
    })
    .await;
}
