//! What happened between two syncs, and answers that are long.

use parley_conformance::on_each_engine;
use serde_json::{Value, json};

use super::{joined, sync, types};
use crate::rooms::{act, act_self, create, create_public, join, say};

#[tokio::test]
async fn a_room_that_was_joined_and_left_in_one_gap_is_told_to_be_left() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        let since = sync(&bob, None, json!({})).await["next_batch"].clone();
        join(&bob, &room_id).await.ok();
        say(&alice, &room_id, "seen").await;
        act_self(&bob, &room_id, "leave").await.ok();
        say(&alice, &room_id, "unseen").await;
        let told = sync(&bob, Some(&since), json!({})).await;
        assert!(told["rooms"]["join"].get(&room_id).is_none(), "{told}");
        let timeline = &told["rooms"]["leave"][&room_id]["timeline"]["events"];
        let texts: Vec<&str> = timeline
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|event| event["content"]["body"].as_str())
            .collect();
        assert_eq!(texts, ["seen"]);
        let last = timeline.as_array().unwrap().last().unwrap();
        assert_eq!(last["content"]["membership"], "leave");
        let after = sync(&bob, Some(&told["next_batch"]), json!({})).await;
        assert!(after.get("rooms").is_none(), "{after}");
    })
    .await;
}

#[tokio::test]
async fn a_room_that_was_left_and_joined_again_in_one_gap_is_told_on() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let since = sync(&bob, None, json!({})).await["next_batch"].clone();
        act_self(&bob, &room_id, "leave").await.ok();
        join(&bob, &room_id).await.ok();
        let told = sync(&bob, Some(&since), json!({})).await;
        let events = joined(&told, &room_id)["timeline"]["events"]
            .as_array()
            .unwrap();
        let memberships: Vec<&Value> = events
            .iter()
            .map(|event| &event["content"]["membership"])
            .collect();
        assert_eq!(memberships, ["leave", "join"]);
        assert!(told["rooms"]["leave"].get(&room_id).is_none(), "{told}");
    })
    .await;
}

#[tokio::test]
async fn an_invitation_that_was_declined_is_told_to_be_left_and_nothing_of_the_room() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(
            &alice,
            json!({ "preset": "private_chat", "name": "secret" }),
        )
        .await;
        let before = sync(&bob, None, json!({})).await["next_batch"].clone();
        act(&alice, &room_id, "invite", &bob).await.ok();
        let told = sync(&bob, Some(&before), json!({})).await;
        assert!(told["rooms"]["invite"].get(&room_id).is_some(), "{told}");
        act_self(&bob, &room_id, "leave").await.ok();
        for since in [&told["next_batch"], &before] {
            let told = sync(&bob, Some(since), json!({})).await;
            let left = &told["rooms"]["leave"][&room_id];
            assert_eq!(left["state"]["events"], json!([]), "{left}");
            let timeline = types(&left["timeline"]["events"]);
            let own = format!("m.room.member {}", bob.user_id);
            assert!(timeline.iter().all(|event| *event == own), "{timeline:?}");
            assert!(told["rooms"]["invite"].get(&room_id).is_none(), "{told}");
        }
        let with_left = json!({ "room": { "include_leave": true } });
        let anew = sync(&bob, None, with_left).await;
        assert!(anew["rooms"]["join"].get(&room_id).is_none(), "{anew}");
    })
    .await;
}

#[tokio::test]
async fn a_first_answer_with_many_rooms_is_sent_in_pieces_and_whole() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let mut rooms = Vec::new();
        // More than are told at a time.
        for number in 0..105 {
            let room_id = create_public(&alice).await;
            if number < 2 {
                act(&alice, &room_id, "invite", &bob).await.ok();
            }
            rooms.push(room_id);
        }
        for room_id in &rooms[2..4] {
            act_self(&alice, room_id, "leave").await.ok();
        }
        let invitation = create(&bob, json!({ "preset": "private_chat" })).await;
        act(&bob, &invitation, "invite", &alice).await.ok();
        server.restart().await;

        let one = json!({ "room": { "include_leave": true, "timeline": { "limit": 1 } } });
        let told = sync(&alice, None, one).await;
        let ids = |section: &str| told["rooms"][section].as_object().unwrap().len();
        assert_eq!((ids("join"), ids("invite"), ids("leave")), (103, 1, 2));
        for room_id in &rooms[4..] {
            let room = joined(&told, room_id);
            assert_eq!(room["timeline"]["events"].as_array().unwrap().len(), 1);
            assert_eq!(room["unread_notifications"]["notification_count"], 0);
        }
        let after = sync(&alice, Some(&told["next_batch"]), json!({})).await;
        assert!(after.get("rooms").is_none(), "{after}");
    })
    .await;
}
