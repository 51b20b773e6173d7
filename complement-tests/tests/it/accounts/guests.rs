//! Guests: what they may do, and how they become persons.

use parley_conformance::{Client, TestOptions, TestServer, on_each_engine, on_each_engine_with};
use serde_json::{Value, json};

use crate::rooms::redact;

const REGISTER: &str = "/_matrix/client/v3/register";
const AS_GUEST: &str = "/_matrix/client/v3/register?kind=guest";

fn options() -> TestOptions {
    let mut options = TestOptions::default();
    options.engine.registration.guests = true;
    options
}

pub(super) async fn guest(server: &TestServer) -> Client {
    let mut guest = server.client();
    let answer = guest.post(AS_GUEST, json!({})).await.ok();
    guest.take_login(&answer);
    guest
}

async fn room(owner: &Client, guest_access: &str) -> String {
    let body = json!({
        "preset": "public_chat",
        "initial_state": [{
            "type": "m.room.guest_access",
            "state_key": "",
            "content": { "guest_access": guest_access },
        }],
    });
    let room = owner.post("/_matrix/client/v3/createRoom", body).await.ok();
    room["room_id"].as_str().unwrap().to_owned()
}

fn in_room(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{room}/{rest}")
}

async fn membership(of: &Client, room: &str, seen_by: &Client) -> Value {
    let path = in_room(room, &format!("state/m.room.member/{}", of.user_id));
    seen_by.get(&path).await.ok()["membership"].clone()
}

#[tokio::test]
async fn there_are_no_guests_unless_that_is_wanted() {
    on_each_engine(async |server| {
        let answer = server.client().post(AS_GUEST, json!({})).await;
        answer.is_refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn a_guest_gets_a_number_for_a_name_and_a_device_of_the_servers_choice() {
    on_each_engine_with(options, async |server| {
        let body = json!({
            "username": "alice", "password": "correct horse", "device_id": "MINE", "inhibit_login": true,
            "initial_device_display_name": "Kiosk",
        });
        let mut guest = server.client();
        let answer = guest.post(AS_GUEST, body).await.ok();
        guest.take_login(&answer);
        let localpart = guest.user_id.strip_prefix('@').unwrap().split_once(':').unwrap().0;
        assert!(localpart.bytes().all(|byte| byte.is_ascii_digit()), "{localpart}");
        assert_ne!(guest.device_id, "MINE");
        let device = format!("/_matrix/client/v3/devices/{}", guest.device_id);
        assert_eq!(guest.get(&device).await.ok()["display_name"], "Kiosk");
        let whoami = guest.get("/_matrix/client/v3/account/whoami").await.ok();
        assert_eq!(whoami["is_guest"], true);
    })
    .await;
}

#[tokio::test]
async fn names_of_digits_alone_are_the_guests() {
    on_each_engine(async |server| {
        let body = json!({
            "username": "12345", "password": "correct horse", "auth": { "type": "m.login.dummy" },
        });
        let answer = server.client().post(REGISTER, body).await;
        answer.is_refused(400, "M_INVALID_USERNAME");
    })
    .await;
}

#[tokio::test]
async fn a_guest_joins_and_writes_where_guests_may() {
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let (open, closed) = (
            room(&alice, "can_join").await,
            room(&alice, "forbidden").await,
        );
        let guest = guest(server).await;
        for way in [
            in_room(&closed, "join"),
            format!("/_matrix/client/v3/join/{closed}"),
        ] {
            let answer = guest.post(&way, json!({})).await;
            answer.is_refused(403, "M_GUEST_ACCESS_FORBIDDEN");
        }
        let invite = json!({ "user_id": guest.user_id });
        alice.post(&in_room(&closed, "invite"), invite).await.ok();
        let answer = guest.post(&in_room(&closed, "join"), json!({})).await;
        answer.is_refused(403, "M_GUEST_ACCESS_FORBIDDEN");
        let own = in_room(&closed, &format!("state/m.room.member/{}", guest.user_id));
        let answer = guest.put(&own, json!({ "membership": "join" })).await;
        answer.is_refused(403, "M_GUEST_ACCESS_FORBIDDEN");

        guest.post(&in_room(&open, "join"), json!({})).await.ok();
        let text = json!({ "msgtype": "m.text", "body": "hello" });
        guest
            .put(&in_room(&open, "send/m.room.message/1"), text)
            .await
            .ok();
        guest.get("/_matrix/client/v3/sync").await.ok();
        guest.get(&in_room(&open, "messages?dir=b")).await.ok();
        let name = format!("/_matrix/client/v3/profile/{}/displayname", guest.user_id);
        guest
            .put(&name, json!({ "displayname": "Visitor" }))
            .await
            .ok();
        guest.post(&in_room(&open, "leave"), json!({})).await.ok();
        guest
            .post("/_matrix/client/v3/logout", json!({}))
            .await
            .ok();
    })
    .await;
}

#[tokio::test]
async fn a_guest_may_do_nothing_else() {
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let open = room(&alice, "can_join").await;
        let guest = guest(server).await;
        guest.post(&in_room(&open, "join"), json!({})).await.ok();
        let picture = format!("/_matrix/client/v3/profile/{}/avatar_url", guest.user_id);
        let refused = [
            guest.post("/_matrix/client/v3/createRoom", json!({})).await,
            guest
                .put(&picture, json!({ "avatar_url": "mxc://a/b" }))
                .await,
            guest
                .post(
                    &in_room(&open, "invite"),
                    json!({ "user_id": alice.user_id }),
                )
                .await,
            guest
                .post(&in_room(&open, "kick"), json!({ "user_id": alice.user_id }))
                .await,
            guest.get("/_matrix/client/v3/pushrules/").await,
            guest
                .post(
                    "/_matrix/client/v3/account/password",
                    json!({ "new_password": "long enough" }),
                )
                .await,
            guest
                .post("/_matrix/client/v1/login/get_token", json!({}))
                .await,
        ];
        for answer in refused {
            answer.is_refused(403, "M_GUEST_ACCESS_FORBIDDEN");
        }
    })
    .await;
}

#[tokio::test]
async fn a_room_that_takes_guests_no_more_shuts_them_out() {
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room = room(&alice, "can_join").await;
        let (guest, person) = (guest(server).await, guest(server).await);
        for client in [&bob, &guest, &person] {
            client.post(&in_room(&room, "join"), json!({})).await.ok();
        }
        let person = upgraded(&person).await;
        let access = in_room(&room, "state/m.room.guest_access");
        alice
            .put(&access, json!({ "guest_access": "forbidden" }))
            .await
            .ok();
        assert_eq!(membership(&guest, &room, &alice).await, "leave");
        assert_eq!(membership(&person, &room, &alice).await, "join");
        assert_eq!(membership(&bob, &room, &alice).await, "join");
        let answer = guest.post(&in_room(&room, "join"), json!({})).await;
        answer.is_refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn a_room_whose_word_that_guests_may_join_is_redacted_shuts_them_out() {
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let room = room(&alice, "can_join").await;
        let (guest, person) = (guest(server).await, guest(server).await);
        for client in [&guest, &person] {
            client.post(&in_room(&room, "join"), json!({})).await.ok();
        }
        let person = upgraded(&person).await;
        let access = in_room(&room, "state/m.room.guest_access?format=event");
        let access = alice.get(&access).await.ok()["event_id"].clone();
        redact(&alice, &room, access.as_str().unwrap()).await.ok();
        assert_eq!(membership(&guest, &room, &alice).await, "leave");
        assert_eq!(membership(&person, &room, &alice).await, "join");
    })
    .await;
}

#[tokio::test]
async fn guests_stay_when_an_earlier_word_on_them_is_redacted() {
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let room = room(&alice, "forbidden").await;
        let path = in_room(&room, "state/m.room.guest_access");
        let earlier = alice.get(&format!("{path}?format=event")).await.ok();
        let open = json!({ "guest_access": "can_join" });
        alice.put(&path, open).await.ok();
        let guest = guest(server).await;
        guest.post(&in_room(&room, "join"), json!({})).await.ok();
        let earlier = earlier["event_id"].as_str().unwrap();
        redact(&alice, &room, earlier).await.ok();
        assert_eq!(membership(&guest, &room, &alice).await, "join");
    })
    .await;
}

fn upgrade(guest: &Client) -> Value {
    json!({
        "username": guest.user_id.strip_prefix('@').unwrap().split_once(':').unwrap().0,
        "password": "correct horse",
        "guest_access_token": guest.token,
        "auth": { "type": "m.login.dummy" },
    })
}

async fn upgraded(guest: &Client) -> Client {
    let answer = guest
        .without_token()
        .post(REGISTER, upgrade(guest))
        .await
        .ok();
    let mut person = guest.clone();
    person.take_login(&answer);
    person
}

#[tokio::test]
async fn a_guest_who_registers_keeps_name_and_rooms() {
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let room = room(&alice, "can_join").await;
        let guest = guest(server).await;
        guest.post(&in_room(&room, "join"), json!({})).await.ok();
        let person = upgraded(&guest).await;
        assert_eq!(person.user_id, guest.user_id);
        for client in [&guest, &person] {
            let whoami = client.get("/_matrix/client/v3/account/whoami").await.ok();
            assert_ne!(whoami["is_guest"], true);
            client
                .post("/_matrix/client/v3/createRoom", json!({}))
                .await
                .ok();
        }
        let again = guest.without_token().post(REGISTER, upgrade(&guest)).await;
        again.is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn nobody_takes_over_the_account_of_another_guest() {
    on_each_engine_with(options, async |server| {
        let (guest, other) = (guest(server).await, guest(server).await);
        let mut body = upgrade(&guest);
        body["guest_access_token"] = json!(other.token);
        let answer = server.client().post(REGISTER, body.clone()).await;
        answer.is_refused(403, "M_FORBIDDEN");
        body["guest_access_token"] = "guess".into();
        let answer = server.client().post(REGISTER, body).await;
        answer.is_refused(401, "M_UNKNOWN_TOKEN");
        let mut body = upgrade(&guest);
        body.as_object_mut().unwrap().remove("username");
        let answer = server.client().post(REGISTER, body).await;
        answer.is_refused(403, "M_FORBIDDEN");
    })
    .await;
}
