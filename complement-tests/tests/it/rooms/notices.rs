//! What the server tells its users.

use parley_conformance::{
    Answer, Client, TestOptions, TestServer, on_each_engine, on_each_engine_with,
};
use parley_engine::settings::ServerNoticeSettings;
use ruma::events::room::member::MembershipState;
use serde_json::{Value, json};

use super::{BASE, act_self, event_id, get_event, get_state, join, quoted, try_say};

const PATH: &str = "/_synapse/admin/v1/send_server_notice";

fn options() -> TestOptions {
    let mut options = TestOptions::default();
    options.engine.server_notices = Some(ServerNoticeSettings::new("_server"));
    options
}

async fn admin(server: &TestServer) -> Client {
    let root = server.register("root").await;
    let user_id = ruma::UserId::parse(&root.user_id).unwrap();
    let accounts = server.engine().accounts();
    accounts.set_admin(&user_id, true).await.unwrap();
    root
}

fn notice(user: &Client, text: &str) -> Value {
    json!({ "user_id": user.user_id, "content": { "body": text } })
}

async fn tell(admin: &Client, user: &Client, text: &str) -> Answer {
    admin.post(PATH, notice(user, text)).await
}

/// The rooms to which a user is invited, with the state that is shown of them.
async fn invitations(user: &Client) -> Vec<(String, Value)> {
    let answer = user.get(&format!("{BASE}/sync?timeout=0")).await.ok();
    let rooms = answer["rooms"]["invite"].as_object().cloned();
    let rooms = rooms.unwrap_or_default().into_iter();
    rooms
        .map(|(room_id, room)| (room_id, room["invite_state"]["events"].clone()))
        .collect()
}

async fn only_invitation(user: &Client) -> String {
    let invitations = invitations(user).await;
    assert_eq!(invitations.len(), 1, "{invitations:?}");
    let (room_id, state) = invitations.into_iter().next().unwrap();
    assert_eq!(state[0]["sender"], "@_server:parley.test");
    room_id
}

#[tokio::test]
async fn a_user_is_invited_to_hear_a_notice_and_can_not_decline() {
    on_each_engine_with(options, async |server| {
        let root = admin(server).await;
        let alice = server.register("alice").await;
        let told = event_id(&tell(&root, &alice, "back at noon").await.ok());
        let room_id = only_invitation(&alice).await;
        act_self(&alice, &room_id, "leave")
            .await
            .is_refused(403, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM");
        join(&alice, &room_id).await.ok();
        let event = get_event(&alice, &room_id, &told).await.ok();
        assert_eq!(
            event["content"],
            json!({ "msgtype": "m.server_notice", "body": "back at noon" })
        );
        assert_eq!(event["sender"], "@_server:parley.test");
        let name = get_state(&alice, &room_id, "m.room.name", "").await.ok();
        assert_eq!(name["name"], "Server Notices");
        let tags = format!(
            "{BASE}/user/{}/rooms/{}/tags",
            quoted(&alice.user_id),
            quoted(&room_id)
        );
        let tags = alice.get(&tags).await.ok();
        assert_eq!(tags, json!({ "tags": { "m.server_notice": {} } }));
    })
    .await;
}

#[tokio::test]
async fn who_wants_no_invitations_hears_notices_nevertheless() {
    on_each_engine_with(options, async |server| {
        let root = admin(server).await;
        let alice = server.register("alice").await;
        let data = format!("{BASE}/user/{}/account_data", quoted(&alice.user_id));
        let none = json!({ "default_action": "block" });
        let path = format!("{data}/m.invite_permission_config");
        alice.put(&path, none).await.ok();
        let ignored = json!({ "ignored_users": { "@_server:parley.test": {} } });
        let path = format!("{data}/m.ignored_user_list");
        alice.put(&path, ignored).await.ok();
        tell(&root, &alice, "important").await.ok();
        only_invitation(&alice).await;
    })
    .await;
}

#[tokio::test]
async fn who_hears_notices_can_not_answer_or_bring_others_along() {
    on_each_engine_with(options, async |server| {
        let root = admin(server).await;
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        tell(&root, &alice, "hear").await.ok();
        let room_id = only_invitation(&alice).await;
        join(&alice, &room_id).await.ok();
        try_say(&alice, &room_id, "why", "1")
            .await
            .is_refused(403, "M_FORBIDDEN");
        super::act(&alice, &room_id, "invite", &bob)
            .await
            .is_refused(403, "M_FORBIDDEN");
        join(&bob, &room_id).await.is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn who_has_left_is_invited_to_the_same_room_by_the_next_notice() {
    on_each_engine_with(options, async |server| {
        let root = admin(server).await;
        let alice = server.register("alice").await;
        tell(&root, &alice, "one").await.ok();
        let room_id = only_invitation(&alice).await;
        join(&alice, &room_id).await.ok();
        act_self(&alice, &room_id, "leave").await.ok();
        server.restart().await;
        tell(&root, &alice, "two").await.ok();
        assert_eq!(only_invitation(&alice).await, room_id);
        let bob = server.register("bob").await;
        tell(&root, &bob, "one").await.ok();
        assert_ne!(only_invitation(&bob).await, room_id);
    })
    .await;
}

#[tokio::test]
async fn notices_at_once_are_told_in_one_room() {
    on_each_engine_with(options, async |server| {
        let root = admin(server).await;
        let alice = server.register("alice").await;
        let texts = ["a", "b", "c", "d"];
        let told = texts.iter().map(|text| tell(&root, &alice, text));
        let told = futures::future::join_all(told).await;
        let told: Vec<_> = told.into_iter().map(|told| event_id(&told.ok())).collect();
        let room_id = only_invitation(&alice).await;
        join(&alice, &room_id).await.ok();
        for event_id in told {
            get_event(&alice, &room_id, &event_id).await.ok();
        }
    })
    .await;
}

#[tokio::test]
async fn a_notice_with_a_transaction_id_is_sent_once_for_each_administrator() {
    on_each_engine_with(options, async |server| {
        let root = admin(server).await;
        let second = root.log_in_again().await;
        let alice = server.register("alice").await;
        let path = format!("{PATH}/t1");
        let first = root.put(&path, notice(&alice, "once")).await.ok();
        assert_eq!(root.put(&path, notice(&alice, "once")).await.ok(), first);
        assert_ne!(second.put(&path, notice(&alice, "other")).await.ok(), first);
        let twice = tell(&root, &alice, "twice").await.ok();
        assert_ne!(tell(&root, &alice, "twice").await.ok(), twice);
    })
    .await;
}

#[tokio::test]
async fn a_notice_can_be_pinned_and_the_room_follows_the_configuration() {
    on_each_engine_with(options, async |server| {
        let root = admin(server).await;
        let alice = server.register("alice").await;
        let told = event_id(&tell(&root, &alice, "over quota").await.ok());
        let pin = json!({
            "user_id": alice.user_id,
            "type": "m.room.pinned_events",
            "state_key": "",
            "content": { "pinned": [told] },
        });
        root.post(PATH, pin).await.ok();
        let room_id = only_invitation(&alice).await;
        join(&alice, &room_id).await.ok();
        let pinned = get_state(&alice, &room_id, "m.room.pinned_events", "")
            .await
            .ok();
        assert_eq!(pinned, json!({ "pinned": [told] }));

        let settings = &mut server.options_mut().engine.server_notices;
        *settings = Some(ServerNoticeSettings {
            display_name: "Front desk".to_owned(),
            room_name: "From the desk".to_owned(),
            room_topic: Some("Hear ye".to_owned()),
            ..ServerNoticeSettings::new("_server")
        });
        server.restart().await;
        tell(&root, &alice, "new signs").await.ok();
        let name = get_state(&alice, &room_id, "m.room.name", "").await.ok();
        assert_eq!(name["name"], "From the desk");
        let topic = get_state(&alice, &room_id, "m.room.topic", "").await.ok();
        assert_eq!(topic["topic"], "Hear ye");
        let sender = get_state(&alice, &room_id, "m.room.member", "@_server:parley.test").await;
        assert_eq!(sender.ok()["displayname"], "Front desk");
    })
    .await;
}

#[tokio::test]
async fn only_administrators_send_notices_and_only_to_users_of_this_server() {
    on_each_engine_with(options, async |server| {
        let root = admin(server).await;
        let alice = server.register("alice").await;
        alice
            .post(PATH, json!({}))
            .await
            .is_refused(403, "M_FORBIDDEN");
        alice
            .put(&format!("{PATH}/1"), json!({}))
            .await
            .is_refused(403, "M_FORBIDDEN");
        let stranger = server.client();
        tell(&stranger, &alice, "hi")
            .await
            .is_refused(401, "M_MISSING_TOKEN");
        let to = |user_id: &str| json!({ "user_id": user_id, "content": { "body": "b" } });
        for (body, status, code) in [
            (json!({}), 400, "M_MISSING_PARAM"),
            (json!({ "user_id": alice.user_id }), 400, "M_MISSING_PARAM"),
            (
                json!({ "user_id": alice.user_id, "content": 1 }),
                400,
                "M_BAD_JSON",
            ),
            (to("alice"), 400, "M_INVALID_PARAM"),
            (to("@alice:elsewhere.test"), 400, "M_INVALID_PARAM"),
            (to("@nobody:parley.test"), 404, "M_NOT_FOUND"),
            (to("@_server:parley.test"), 404, "M_NOT_FOUND"),
            (
                json!({
                    "user_id": alice.user_id,
                    "type": "m.room.member",
                    "state_key": root.user_id,
                    "content": { "membership": "invite" },
                }),
                400,
                "M_INVALID_PARAM",
            ),
        ] {
            root.post(PATH, body).await.is_refused(status, code);
        }
        assert_eq!(invitations(&alice).await, []);
        let mut squatter = server.client();
        squatter.token = None;
        let taken = json!({
            "username": "_server",
            "password": parley_conformance::PASSWORD,
            "auth": { "type": "m.login.dummy" },
        });
        let answer = squatter.post(&format!("{BASE}/register"), taken).await;
        answer.is_refused(400, "M_USER_IN_USE");
    })
    .await;
}

#[tokio::test]
async fn a_deactivated_user_leaves_the_room_for_notices_too() {
    on_each_engine_with(options, async |server| {
        let root = admin(server).await;
        let alice = server.register("alice").await;
        tell(&root, &alice, "one").await.ok();
        let room_id = ruma::RoomId::parse(only_invitation(&alice).await).unwrap();
        let user_id = ruma::UserId::parse(&alice.user_id).unwrap();
        let accounts = server.engine().accounts();
        accounts.deactivate(&user_id, false).await.unwrap();
        let rooms = server.engine().rooms();
        let room = rooms.room(&room_id).await.unwrap();
        let state = rooms.registry().load(&room).await.unwrap();
        assert_eq!(state.membership(&user_id), MembershipState::Leave);
        let answer = tell(&root, &alice, "two").await;
        answer.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_sends_no_notices_says_so() {
    on_each_engine(async |server| {
        let root = admin(server).await;
        tell(&root, &root, "hello")
            .await
            .is_refused(400, "M_UNKNOWN");
    })
    .await;
}

#[tokio::test]
async fn who_is_suspended_or_locked_is_told_all_the_same() {
    on_each_engine_with(options, async |server| {
        let root = admin(server).await;
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let accounts = server.engine().accounts();
        let id = |client: &Client| ruma::UserId::parse(&client.user_id).unwrap();
        accounts.set_suspended(&id(&alice), true).await.unwrap();
        accounts.set_locked(&id(&bob), true).await.unwrap();
        tell(&root, &alice, "why").await.ok();
        tell(&root, &bob, "why").await.ok();
        only_invitation(&alice).await;
        accounts.set_locked(&id(&bob), false).await.unwrap();
        only_invitation(&bob).await;
    })
    .await;
}
