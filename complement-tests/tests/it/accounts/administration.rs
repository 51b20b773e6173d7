//! What administrators do to accounts by the client-server API.

use parley_conformance::{Client, TestServer, on_each_engine};
use serde_json::json;

async fn admin(server: &TestServer) -> Client {
    let root = server.register("root").await;
    let user_id = ruma::UserId::parse(&root.user_id).unwrap();
    let accounts = server.engine().accounts();
    accounts.set_admin(&user_id, true).await.unwrap();
    root
}

fn path(what: &str, user: &str) -> String {
    format!("/_matrix/client/v1/admin/{what}/{user}")
}

const KINDS: [(&str, &str); 2] = [("suspend", "suspended"), ("lock", "locked")];

#[tokio::test]
async fn an_administrator_locks_and_suspends_and_takes_it_back() {
    on_each_engine(async |server| {
        let root = admin(server).await;
        let alice = server.register("alice").await;
        for (what, field) in KINDS {
            let path = path(what, &alice.user_id);
            assert_eq!(root.get(&path).await.ok(), json!({ field: false }));
            for value in [true, true, false] {
                let answer = root.put(&path, json!({ field: value })).await.ok();
                assert_eq!(answer, json!({ field: value }));
                assert_eq!(root.get(&path).await.ok(), json!({ field: value }));
            }
        }
        alice
            .post("/_matrix/client/v3/createRoom", json!({}))
            .await
            .ok();
    })
    .await;
}

#[tokio::test]
async fn a_locked_user_may_log_out_and_nothing_else() {
    on_each_engine(async |server| {
        let root = admin(server).await;
        let alice = server.register("alice").await;
        let other = alice.log_in_again().await;
        root.put(&path("lock", &alice.user_id), json!({ "locked": true }))
            .await
            .ok();
        for client in [&alice, &other] {
            let answer = client.get("/_matrix/client/v3/sync").await;
            answer.is_refused(401, "M_USER_LOCKED");
            assert_eq!(answer.body["soft_logout"], true);
        }
        other
            .post("/_matrix/client/v3/logout", json!({}))
            .await
            .ok();
        root.put(&path("lock", &alice.user_id), json!({ "locked": false }))
            .await
            .ok();
        alice.get("/_matrix/client/v3/sync").await.ok();
        other
            .get("/_matrix/client/v3/sync")
            .await
            .is_refused(401, "M_UNKNOWN_TOKEN");
    })
    .await;
}

async fn room(owner: &Client) -> String {
    let body = json!({ "preset": "public_chat" });
    let room = owner.post("/_matrix/client/v3/createRoom", body).await.ok();
    room["room_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_suspended_user_reads_leaves_and_takes_back_but_does_not_write() {
    on_each_engine(async |server| {
        let root = admin(server).await;
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let (room, other) = (room(&alice).await, room(&bob).await);
        let (room, other) = (room.as_str(), other.as_str());
        let in_room = |room: &str, rest: &str| format!("/_matrix/client/v3/rooms/{room}/{rest}");
        let text = json!({ "msgtype": "m.text", "body": "hello" });
        let sent = alice
            .put(&in_room(room, "send/m.room.message/1"), text.clone())
            .await
            .ok();
        let sent = sent["event_id"].as_str().unwrap();
        root.put(
            &path("suspend", &alice.user_id),
            json!({ "suspended": true }),
        )
        .await
        .ok();

        let name = format!("/_matrix/client/v3/profile/{}/displayname", alice.user_id);
        let refused = [
            alice
                .put(&in_room(room, "send/m.room.message/2"), text)
                .await,
            alice
                .put(
                    &in_room(room, "state/m.room.topic"),
                    json!({ "topic": "x" }),
                )
                .await,
            alice.post(&in_room(other, "join"), json!({})).await,
            alice
                .post(&format!("/_matrix/client/v3/knock/{other}"), json!({}))
                .await,
            alice
                .post(&in_room(room, "invite"), json!({ "user_id": root.user_id }))
                .await,
            alice.post("/_matrix/client/v3/createRoom", json!({})).await,
            alice.put(&name, json!({ "displayname": "x" })).await,
            alice.delete(&name, json!({})).await,
        ];
        for answer in refused {
            answer.is_refused(403, "M_USER_SUSPENDED");
        }
        alice.get("/_matrix/client/v3/sync").await.ok();
        alice.get(&in_room(room, "messages?dir=b")).await.ok();
        alice
            .put(&in_room(room, &format!("redact/{sent}/1")), json!({}))
            .await
            .ok();
        alice
            .log_in_again()
            .await
            .post("/_matrix/client/v3/logout", json!({}))
            .await
            .ok();
        alice.post(&in_room(room, "leave"), json!({})).await.ok();
    })
    .await;
}

#[tokio::test]
async fn nobody_else_locks_or_learns_who_is_there() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let users = [
            "@nobody:parley.test",
            "@bob:elsewhere.test",
            alice.user_id.as_str(),
        ];
        for (what, field) in KINDS {
            for user in users {
                let path = path(what, user);
                alice.get(&path).await.is_refused(403, "M_FORBIDDEN");
                alice
                    .put(&path, json!({ field: true }))
                    .await
                    .is_refused(403, "M_FORBIDDEN");
                let stranger = alice.without_token();
                stranger.get(&path).await.is_refused(401, "M_MISSING_TOKEN");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn some_cannot_be_locked() {
    on_each_engine(async |server| {
        let root = admin(server).await;
        let alice = server.register("alice").await;
        let user_id = ruma::UserId::parse(&alice.user_id).unwrap();
        let accounts = server.engine().accounts();
        accounts.deactivate(&user_id, false).await.unwrap();
        let cases = [
            (root.user_id.as_str(), 403, "M_FORBIDDEN"),
            ("@bob:elsewhere.test", 400, "M_INVALID_PARAM"),
            ("@nobody:parley.test", 404, "M_NOT_FOUND"),
            (alice.user_id.as_str(), 404, "M_NOT_FOUND"),
        ];
        for (user, status, code) in cases {
            for (what, field) in KINDS {
                let path = path(what, user);
                root.get(&path).await.is_refused(status, code);
                root.put(&path, json!({ field: true }))
                    .await
                    .is_refused(status, code);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn only_administrators_are_told_that_they_may() {
    on_each_engine(async |server| {
        let root = admin(server).await;
        let alice = server.register("alice").await;
        let path = "/_matrix/client/v3/capabilities";
        let moderation = async |client: &Client| {
            client.get(path).await.ok()["capabilities"]["m.account_moderation"].clone()
        };
        assert_eq!(
            moderation(&root).await,
            json!({ "suspend": true, "lock": true })
        );
        assert!(moderation(&alice).await.is_null());
    })
    .await;
}

#[tokio::test]
async fn whois_tells_users_of_themselves_and_administrators_of_all() {
    on_each_engine(async |server| {
        let root = admin(server).await;
        let alice = server.register("alice").await;
        let path = format!("/_matrix/client/v3/admin/whois/{}", alice.user_id);
        for client in [&root, &alice] {
            let answer = client.get(&path).await.ok();
            assert_eq!(answer["user_id"], alice.user_id);
            assert!(
                answer["devices"][&alice.device_id]["sessions"].is_array(),
                "{answer}"
            );
        }
        let bob = server.register("bob").await;
        bob.get(&path).await.is_refused(403, "M_FORBIDDEN");
        let path = "/_matrix/client/v3/admin/whois/@nobody:parley.test";
        root.get(path).await.is_refused(404, "M_NOT_FOUND");
        bob.get(path).await.is_refused(403, "M_FORBIDDEN");
    })
    .await;
}
