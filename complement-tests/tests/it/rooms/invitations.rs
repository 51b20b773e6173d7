//! Being invited.

use parley_conformance::{Answer, Client, TestOptions, on_each_engine, on_each_engine_with};
use parley_engine::settings::RateLimit;
use serde_json::{Value, json};

use super::{
    BASE, act, act_self, create, create_public, get_event, join, quoted, room_path, say, send,
    set_state,
};

/// The state that comes with an invitation.
async fn shown(client: &Client, room_id: &str) -> Value {
    let told = client.get(&format!("{BASE}/sync")).await.ok();
    told["rooms"]["invite"][room_id]["invite_state"]["events"].clone()
}

fn find<'a>(events: &'a Value, event_type: &str, key: &str) -> &'a Value {
    let mut events = events.as_array().unwrap().iter();
    events
        .find(|event| event["type"] == event_type && event["state_key"] == key)
        .unwrap_or(&Value::Null)
}

#[tokio::test]
async fn who_is_invited_is_told_what_the_room_is() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let state = |event_type: &str, content: Value| {
            json!({ "type": event_type, "state_key": "", "content": content })
        };
        let plan = json!({
            "name": "Harbour",
            "topic": "Ships",
            "room_alias_name": "harbour",
            "initial_state": [
                state("m.room.avatar", json!({ "url": "mxc://a/b" })),
                state("m.room.encryption", json!({ "algorithm": "m.megolm.v1.aes-sha2" })),
                state("com.example.secret", json!({})),
            ],
        });
        let room_id = create(&alice, plan).await;
        let body = json!({ "user_id": bob.user_id, "reason": "come" });
        alice.post(&room_path(&room_id, "invite"), body).await.ok();
        let shown = shown(&bob, &room_id).await;
        for event_type in [
            "m.room.create",
            "m.room.name",
            "m.room.topic",
            "m.room.avatar",
            "m.room.encryption",
            "m.room.join_rules",
            "m.room.canonical_alias",
        ] {
            let event = find(&shown, event_type, "");
            let mut fields: Vec<_> = event.as_object().unwrap().keys().collect();
            fields.sort_unstable();
            // Of the create event also when it was sent, which MSC4311 asks for.
            fields.retain(|field| event_type != "m.room.create" || *field != "origin_server_ts");
            assert_eq!(fields, ["content", "sender", "state_key", "type"]);
        }
        assert!(find(&shown, "com.example.secret", "").is_null());
        assert_eq!(find(&shown, "m.room.name", "")["content"]["name"], "Harbour");
        let invitation = find(&shown, "m.room.member", &bob.user_id);
        assert_eq!(invitation["sender"], alice.user_id);
        assert_eq!(invitation["content"]["reason"], "come");
        assert!(find(&shown, "m.room.member", &alice.user_id).is_object());
    })
    .await;
}

#[tokio::test]
async fn an_invitation_to_a_direct_chat_says_so() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        for direct in [true, false] {
            let plan = json!({ "is_direct": direct, "invite": [bob.user_id] });
            let room_id = create(&alice, plan).await;
            let shown = shown(&bob, &room_id).await;
            let content = &find(&shown, "m.room.member", &bob.user_id)["content"];
            assert_eq!(content["membership"], "invite");
            assert_eq!(content["is_direct"] == true, direct, "{content}");
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_invited_only_does_what_members_do_not_need_to_be_for() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({})).await;
        let said = say(&alice, &room_id, "said").await;
        act(&alice, &room_id, "invite", &bob).await.ok();
        for path in ["state", "members", "joined_members", "aliases"] {
            let answer = bob.get(&room_path(&room_id, path)).await;
            answer.is_refused(403, "M_FORBIDDEN");
        }
        get_event(&bob, &room_id, &said)
            .await
            .is_refused(404, "M_NOT_FOUND");
        let content = json!({ "msgtype": "m.text", "body": "x" });
        let answer = send(&bob, &room_id, "m.room.message", content).await;
        answer.is_refused(403, "M_FORBIDDEN");
        let path = format!("typing/{}", quoted(&bob.user_id));
        let answer = bob
            .put(&room_path(&room_id, &path), json!({ "typing": true }))
            .await;
        answer.is_refused(403, "M_FORBIDDEN");
        let path = format!("receipt/m.read/{}", quoted(&said));
        let answer = bob.post(&room_path(&room_id, &path), json!({})).await;
        answer.is_refused(403, "M_FORBIDDEN");
        act(&bob, &room_id, "invite", &alice)
            .await
            .is_refused(403, "M_FORBIDDEN");
        act_self(&bob, &room_id, "leave").await.ok();
        join(&bob, &room_id).await.is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

async fn set_permission(client: &Client, content: Value) -> Answer {
    let user = quoted(&client.user_id);
    let path = format!("{BASE}/user/{user}/account_data/m.invite_permission_config");
    client.put(&path, content).await
}

#[tokio::test]
async fn who_wants_no_invitations_gets_none() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let before = create(&alice, json!({})).await;
        act(&alice, &before, "invite", &bob).await.ok();
        let since = bob.get(&format!("{BASE}/sync")).await.ok()["next_batch"].clone();
        set_permission(&bob, json!({ "default_action": "block" }))
            .await
            .ok();
        let room_id = create_public(&alice).await;
        let invite = async |client: &Client| {
            let plan = json!({ "invite": [bob.user_id] });
            let content = json!({ "membership": "invite" });
            [
                act(client, &room_id, "invite", &bob).await,
                client.post(&format!("{BASE}/createRoom"), plan).await,
                set_state(client, &room_id, "m.room.member", &bob.user_id, content).await,
            ]
        };
        for answer in invite(&alice).await {
            answer.is_refused(403, "M_INVITE_BLOCKED");
        }
        // Who may not invite isn't told what others want.
        act(&carol, &room_id, "invite", &bob)
            .await
            .is_refused(403, "M_FORBIDDEN");
        // What had come before isn't told any more, but is there.
        for rest in ["", &format!("?since={}", since.as_str().unwrap())] {
            let told = bob.get(&format!("{BASE}/sync{rest}")).await.ok();
            assert!(told["rooms"].get("invite").is_none(), "{told}");
        }
        join(&bob, &before).await.ok();
        join(&bob, &room_id).await.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        set_permission(&bob, json!({})).await.ok();
        for answer in invite(&alice).await {
            answer.ok();
        }
        let told = bob.get(&format!("{BASE}/sync")).await.ok();
        assert_eq!(told["rooms"]["invite"].as_object().unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_forgotten_room_is_told_again_when_one_is_invited_again() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({ "invite": [bob.user_id] })).await;
        act_self(&bob, &room_id, "leave").await.ok();
        act_self(&bob, &room_id, "forget").await.ok();
        let told = bob.get(&format!("{BASE}/sync")).await.ok();
        assert!(told.get("rooms").is_none(), "{told}");
        act(&alice, &room_id, "invite", &bob).await.ok();
        assert!(shown(&bob, &room_id).await.is_array());
        join(&bob, &room_id).await.ok();
        let told = bob.get(&format!("{BASE}/sync")).await.ok();
        assert!(told["rooms"]["join"].get(&room_id).is_some(), "{told}");
        bob.get(&room_path(&room_id, "messages?dir=b")).await.ok();
    })
    .await;
}

#[tokio::test]
async fn users_and_servers_of_which_no_invitations_are_wanted_are_blocked_or_ignored() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let room_id = create_public(&alice).await;
        join(&carol, &room_id).await.ok();
        let set = async |rules: Value| {
            let user = quoted(&bob.user_id);
            let kind = "org.matrix.msc4155.invite_permission_config";
            let path = format!("{BASE}/user/{user}/account_data/{kind}");
            bob.put(&path, rules).await.ok();
        };
        let invited = async || {
            let told = bob.get(&format!("{BASE}/sync")).await.ok();
            told["rooms"]["invite"].is_object()
        };
        set(json!({ "blocked_users": [alice.user_id], "ignored_servers": ["parley.*"] })).await;
        act(&alice, &room_id, "invite", &bob)
            .await
            .is_refused(403, "M_INVITE_BLOCKED");
        // Who is ignored isn't told so.
        let private = create(&carol, json!({})).await;
        act(&carol, &private, "invite", &bob).await.ok();
        assert!(!invited().await);
        set(json!({ "allowed_users": [alice.user_id], "blocked_servers": ["*"] })).await;
        act(&alice, &room_id, "invite", &bob).await.ok();
        assert!(invited().await);
    })
    .await;
}

#[tokio::test]
async fn an_invitation_by_a_state_event_is_held_to_the_same_rules() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rate_limits.enabled = true;
        options.engine.rate_limits.invites = RateLimit::new(0.001, 2);
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({})).await;
        let invite = json!({ "membership": "invite" });
        // Somebody who isn't there doesn't come about by being invited.
        let nobody = bob.user_id.replace("bob", "nobody");
        for _ in 0..2 {
            let answer = set_state(&alice, &room_id, "m.room.member", &nobody, invite.clone());
            answer.await.is_refused(404, "M_NOT_FOUND");
        }
        let answer = set_state(&alice, &room_id, "m.room.member", &bob.user_id, invite);
        answer.await.is_refused(429, "M_LIMIT_EXCEEDED");
    })
    .await;
}

#[tokio::test]
async fn nobody_is_invited_whose_account_is_closed() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({})).await;
        let user_id = ruma::UserId::parse(&bob.user_id).unwrap();
        let accounts = server.engine().accounts();
        accounts.deactivate(&user_id, false).await.unwrap();
        let answer = act(&alice, &room_id, "invite", &bob).await;
        answer.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn names_in_a_membership_have_the_limits_of_profiles() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        for (field, value) in [
            ("displayname", json!(5)),
            ("displayname", json!("x".repeat(513))),
            ("avatar_url", json!(["mxc://a/b"])),
            ("avatar_url", json!("x".repeat(1025))),
        ] {
            let content = json!({ "membership": "join", field: value });
            let answer = set_state(&alice, &room_id, "m.room.member", &alice.user_id, content);
            answer.await.is_refused(400, "M_BAD_JSON");
        }
        let content = json!({ "membership": "join", "displayname": null });
        let answer = set_state(&alice, &room_id, "m.room.member", &alice.user_id, content);
        answer.await.ok();
    })
    .await;
}
