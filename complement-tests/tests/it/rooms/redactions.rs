//! Taking events back.

use parley_conformance::on_each_engine;
use serde_json::{Value, json};

use super::{
    create, create_public, event_id, get_event, get_state, join, quoted, redact, room_path, say,
    send, set_state,
};

#[tokio::test]
async fn a_redaction_can_be_redacted_and_what_it_redacted_stays_so() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for version in ["10", "11", "12"] {
            let room_id = create(&alice, json!({ "room_version": version })).await;
            let said = say(&alice, &room_id, "said").await;
            let path = room_path(&room_id, &format!("redact/{}/1", quoted(&said)));
            let redaction = alice.put(&path, json!({ "reason": "slip" })).await.ok();
            let redaction = event_id(&redaction);
            let event = get_event(&alice, &room_id, &redaction).await.ok();
            // For clients it stands in both places, whatever the version.
            assert_eq!(event["redacts"], said.as_str(), "{event}");
            let content = json!({ "reason": "slip", "redacts": said });
            assert_eq!(event["content"], content);
            redact(&alice, &room_id, &redaction).await.ok();
            let event = get_event(&alice, &room_id, &redaction).await.ok();
            assert!(event["content"].get("reason").is_none(), "{event}");
            let event = get_event(&alice, &room_id, &said).await.ok();
            assert_eq!(event["content"], json!({}));
            assert!(event["unsigned"]["redacted_because"].is_object(), "{event}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_event_stays_redacted_by_the_first_of_several_redactions() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let said = say(&bob, &room_id, "said").await;
        let first = event_id(&redact(&bob, &room_id, &said).await.ok());
        let second = event_id(&redact(&alice, &room_id, &said).await.ok());
        assert_ne!(first, second);
        let event = get_event(&alice, &room_id, &said).await.ok();
        assert_eq!(event["unsigned"]["redacted_because"]["event_id"], first);
    })
    .await;
}

#[tokio::test]
async fn a_redaction_names_an_event_of_its_room() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let other = create(&alice, json!({})).await;
        let elsewhere = say(&alice, &other, "elsewhere").await;
        redact(&alice, &room_id, &elsewhere)
            .await
            .is_refused(404, "M_NOT_FOUND");
        redact(&alice, &room_id, "$unknown")
            .await
            .is_refused(404, "M_NOT_FOUND");
        let by_send =
            async |content: Value| send(&alice, &room_id, "m.room.redaction", content).await;
        by_send(json!({})).await.is_refused(400, "M_MISSING_PARAM");
        by_send(json!({ "redacts": 1 }))
            .await
            .is_refused(400, "M_MISSING_PARAM");
        by_send(json!({ "redacts": elsewhere }))
            .await
            .is_refused(404, "M_NOT_FOUND");
        let content = json!({ "redacts": say(&alice, &room_id, "here").await });
        let answer = set_state(&alice, &room_id, "m.room.redaction", "", content.clone()).await;
        answer.is_refused(400, "M_INVALID_PARAM");
        by_send(content.clone()).await.ok();
        let event = get_event(&alice, &room_id, content["redacts"].as_str().unwrap());
        assert_eq!(event.await.ok()["content"], json!({}));
    })
    .await;
}

#[tokio::test]
async fn a_room_keeps_what_it_stands_on() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({ "room_version": "10" })).await;
        let state = alice.get(&room_path(&room_id, "state")).await.ok();
        let mut events = state.as_array().unwrap().iter();
        let creation = events
            .find(|event| event["type"] == "m.room.create")
            .unwrap();
        let creation = creation["event_id"].as_str().unwrap();
        redact(&alice, &room_id, creation)
            .await
            .is_refused(403, "M_FORBIDDEN");
        let list = json!({ "allow": ["*"] });
        let list = set_state(&alice, &room_id, "m.room.server_acl", "", list).await;
        redact(&alice, &room_id, &event_id(&list.ok()))
            .await
            .is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn a_redacted_membership_holds_and_a_redacted_name_is_gone() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({ "preset": "public_chat", "name": "first" })).await;
        let joined = json!({ "membership": "join", "displayname": "Robert" });
        join(&bob, &room_id).await.ok();
        let member = set_state(&bob, &room_id, "m.room.member", &bob.user_id, joined).await;
        redact(&alice, &room_id, &event_id(&member.ok())).await.ok();
        let member = get_state(&alice, &room_id, "m.room.member", &bob.user_id).await;
        assert_eq!(member.ok(), json!({ "membership": "join" }));
        say(&bob, &room_id, "still here").await;
        let name = json!({ "name": "second" });
        let name = set_state(&alice, &room_id, "m.room.name", "", name).await;
        redact(&alice, &room_id, &event_id(&name.ok())).await.ok();
        // It isn't what it was before.
        let name = get_state(&alice, &room_id, "m.room.name", "").await;
        assert_eq!(name.ok(), json!({}));
    })
    .await;
}

#[tokio::test]
async fn the_same_transaction_id_for_another_event_redacts_that_too() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let one = say(&alice, &room_id, "one").await;
        let other = say(&alice, &room_id, "other").await;
        let path = |target: &str| room_path(&room_id, &format!("redact/{}/same", quoted(target)));
        let first = event_id(&alice.put(&path(&one), json!({})).await.ok());
        let second = event_id(&alice.put(&path(&other), json!({})).await.ok());
        assert_ne!(first, second);
        let again = alice.put(&path(&one), json!({})).await.ok();
        assert_eq!(event_id(&again), first);
        for target in [&one, &other] {
            let event = get_event(&alice, &room_id, target).await.ok();
            assert_eq!(event["content"], json!({}), "{event}");
        }
        // The client is told the transaction id as it gave it.
        for redaction in [&first, &second] {
            let event = get_event(&alice, &room_id, redaction).await.ok();
            assert_eq!(event["unsigned"]["transaction_id"], "same", "{event}");
        }
    })
    .await;
}
