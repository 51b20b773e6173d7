//! The one direct chat of two people.

use parley_conformance::{Answer, Client, on_each_engine};
use serde_json::{Value, json};

use super::{act_self, get_state, join, quoted};

async fn ask(client: &Client, user_id: &str) -> Answer {
    let path = format!(
        "/_matrix/client/unstable/im.parley/direct_chat/{}",
        quoted(user_id)
    );
    client.post(&path, json!({})).await
}

fn room_of(answer: &Value) -> String {
    answer["room_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn both_get_the_same_room_on_every_device_also_when_they_ask_at_once() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let devices = [
            (&alice.log_in_again().await, &bob.user_id),
            (&bob.log_in_again().await, &alice.user_id),
            (&alice, &bob.user_id),
            (&bob, &alice.user_id),
        ];
        let asked = devices.iter().map(|(device, user_id)| ask(device, user_id));
        let answers: Vec<Value> = futures::future::join_all(asked)
            .await
            .into_iter()
            .map(Answer::ok)
            .collect();
        let room_id = room_of(&answers[0]);
        assert!(
            answers.iter().all(|answer| room_of(answer) == room_id),
            "{answers:?}"
        );
        let made = answers
            .iter()
            .filter(|answer| answer["created"] == true)
            .count();
        assert_eq!(made, 1);
        server.restart().await;
        assert_eq!(room_of(&ask(&alice, &bob.user_id).await.ok()), room_id);
        assert_eq!(room_of(&ask(&bob, &alice.user_id).await.ok()), room_id);
        for user in [&alice, &bob] {
            let member = get_state(&alice, &room_id, "m.room.member", &user.user_id)
                .await
                .ok();
            assert_eq!(member["membership"], "join");
        }
    })
    .await;
}

#[tokio::test]
async fn the_other_is_invited_to_a_direct_chat() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let answer = ask(&alice, &bob.user_id).await.ok();
        assert_eq!(answer["created"], true);
        let room_id = room_of(&answer);
        let member = get_state(&alice, &room_id, "m.room.member", &bob.user_id)
            .await
            .ok();
        assert_eq!(
            (&member["membership"], &member["is_direct"]),
            (&json!("invite"), &json!(true))
        );
        join(&bob, &room_id).await.ok();
        assert_eq!(
            ask(&bob, &alice.user_id).await.ok(),
            json!({ "room_id": room_id, "created": false })
        );
    })
    .await;
}

#[tokio::test]
async fn a_chat_that_one_has_left_or_declined_is_replaced() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let declined = room_of(&ask(&alice, &bob.user_id).await.ok());
        act_self(&bob, &declined, "leave").await.ok();
        let left = room_of(&ask(&alice, &bob.user_id).await.ok());
        assert_ne!(declined, left);
        act_self(&alice, &left, "leave").await.ok();
        let answer = ask(&bob, &alice.user_id).await.ok();
        assert_eq!(answer["created"], true);
        assert_ne!(room_of(&answer), left);
    })
    .await;
}

#[tokio::test]
async fn there_is_no_chat_with_oneself_nobody_or_strangers() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        ask(&alice, &alice.user_id)
            .await
            .is_refused(400, "M_INVALID_PARAM");
        ask(&alice, "bob").await.is_refused(400, "M_INVALID_PARAM");
        ask(&alice, "@bob:parley.test")
            .await
            .is_refused(404, "M_NOT_FOUND");
        ask(&alice, "@bob:elsewhere.test")
            .await
            .is_refused(403, "M_FORBIDDEN");
        ask(&server.client(), &alice.user_id)
            .await
            .is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}
