//! The end of an account.

use parley_conformance::{Client, PASSWORD, TestServer, on_each_engine};
use serde_json::{Value, json};

const DEACTIVATE: &str = "/_matrix/client/v3/account/deactivate";

fn proof(client: &Client, password: &str, session: &Value) -> Value {
    json!({ "auth": {
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": client.user_id },
        "password": password,
        "session": session,
    } })
}

#[tokio::test]
async fn a_deactivated_account_is_gone_for_good() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let other = alice.log_in_again().await;
        let challenge = alice.post(DEACTIVATE, json!({})).await;
        assert_eq!(challenge.status, 401);
        let session = &challenge.body["session"];
        let answer = alice
            .post(DEACTIVATE, proof(&alice, "wrong", session))
            .await;
        answer.is_refused(401, "M_FORBIDDEN");
        let answer = alice
            .post(DEACTIVATE, proof(&alice, PASSWORD, session))
            .await;
        assert_eq!(answer.ok()["id_server_unbind_result"], "success");

        for client in [&alice, &other] {
            let answer = client.get("/_matrix/client/v3/account/whoami").await;
            answer.is_refused(401, "M_UNKNOWN_TOKEN");
        }
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": "alice" },
            "password": PASSWORD,
        });
        let answer = alice.post("/_matrix/client/v3/login", body).await;
        answer.is_refused(403, "M_FORBIDDEN");
        let path = "/_matrix/client/v3/register/available?username=alice";
        let answer = alice.get(path).await;
        answer.is_refused(400, "M_USER_IN_USE");
    })
    .await;
}

#[tokio::test]
async fn an_account_is_not_deactivated_without_a_token() {
    on_each_engine(async |server| {
        let answer = server.client().post(DEACTIVATE, json!({})).await;
        answer.is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

async fn erase(server: &TestServer, client: &Client) {
    let user_id = ruma::UserId::parse(&client.user_id).unwrap();
    let accounts = server.engine().accounts();
    accounts.deactivate(&user_id, true).await.unwrap();
}

async fn bodies(client: &Client, room: &str) -> Vec<Value> {
    let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=f&limit=100");
    let chunk = client.get(&path).await.ok()["chunk"].clone();
    let messages = chunk.as_array().unwrap().iter();
    messages
        .filter(|event| event["type"] == "m.room.message")
        .map(|event| event["content"]["body"].clone())
        .collect()
}

async fn send(client: &Client, room: &str, body: &str) -> String {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{body}");
    let sent = client
        .put(&path, json!({ "msgtype": "m.text", "body": body }))
        .await
        .ok();
    sent["event_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn who_comes_after_an_erasure_is_not_shown_what_was_written() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let body = json!({ "preset": "public_chat" });
        let room = bob.post("/_matrix/client/v3/createRoom", body).await.ok();
        let room = room["room_id"].as_str().unwrap();
        let join = format!("/_matrix/client/v3/rooms/{room}/join");
        alice.post(&join, json!({})).await.ok();
        let event = send(&alice, room, "secret").await;
        send(&bob, room, "hello").await;
        erase(server, &alice).await;
        carol.post(&join, json!({})).await.ok();

        assert_eq!(bodies(&bob, room).await, ["secret", "hello"]);
        assert_eq!(bodies(&carol, room).await, [Value::Null, json!("hello")]);
        server.restart().await;
        for path in ["event", "context"] {
            let path = format!("/_matrix/client/v3/rooms/{room}/{path}/{event}");
            let answer = carol.get(&path).await.ok();
            assert!(!answer.to_string().contains("secret"), "{answer}");
            let answer = bob.get(&path).await.ok();
            assert!(answer.to_string().contains("secret"), "{answer}");
        }
        let synced = carol.get("/_matrix/client/v3/sync").await.ok();
        assert!(!synced.to_string().contains("secret"), "{synced}");
        assert!(synced.to_string().contains(&event), "{synced}");
        let synced = bob.get("/_matrix/client/v3/sync").await.ok();
        assert!(synced.to_string().contains("secret"), "{synced}");
    })
    .await;
}

#[tokio::test]
async fn who_is_not_erased_stays_readable() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let body = json!({ "preset": "public_chat" });
        let room = alice.post("/_matrix/client/v3/createRoom", body).await.ok();
        let room = room["room_id"].as_str().unwrap();
        send(&alice, room, "hello").await;
        let user_id = ruma::UserId::parse(&alice.user_id).unwrap();
        let accounts = server.engine().accounts();
        accounts.deactivate(&user_id, false).await.unwrap();
        let join = format!("/_matrix/client/v3/rooms/{room}/join");
        bob.post(&join, json!({})).await.ok();
        assert_eq!(bodies(&bob, room).await, ["hello"]);
    })
    .await;
}

#[tokio::test]
async fn an_erased_user_has_no_profile() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let profile = format!("/_matrix/client/v3/profile/{}", alice.user_id);
        let name = format!("{profile}/displayname");
        alice
            .put(&name, json!({ "displayname": "Alice" }))
            .await
            .ok();
        erase(server, &alice).await;
        assert_eq!(server.client().get(&profile).await.ok(), json!({}));
    })
    .await;
}

#[tokio::test]
async fn what_an_erased_user_wrote_is_veiled_in_search_threads_and_relations() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let body = json!({ "preset": "public_chat" });
        let room = bob.post("/_matrix/client/v3/createRoom", body).await.ok();
        let room = room["room_id"].as_str().unwrap();
        let join = format!("/_matrix/client/v3/rooms/{room}/join");
        alice.post(&join, json!({})).await.ok();
        let relating = |rel_type: &str, target: &str, body: &str| {
            let relation = json!({ "rel_type": rel_type, "event_id": target });
            json!({ "msgtype": "m.text", "body": body, "m.relates_to": relation })
        };
        let put = async |client: &Client, transaction: &str, content: Value| {
            let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{transaction}");
            client.put(&path, content).await.ok()["event_id"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let root = send(&bob, room, "root").await;
        put(&alice, "1", relating("m.thread", &root, "secret answer")).await;
        put(
            &alice,
            "2",
            relating("m.reference", &root, "secret reference"),
        )
        .await;
        let secret_root = send(&alice, room, "secret-root").await;
        put(&bob, "3", relating("m.thread", &secret_root, "answer")).await;
        erase(server, &alice).await;
        carol.post(&join, json!({})).await.ok();

        let search = json!({ "search_categories": { "room_events": {
            "search_term": "answer",
            "event_context": { "before_limit": 10, "after_limit": 10 },
        } } });
        for (client, open) in [(&bob, true), (&carol, false)] {
            let v1 = format!("/_matrix/client/v1/rooms/{room}");
            let related = client.get(&format!("{v1}/relations/{root}")).await.ok();
            let threads = client.get(&format!("{v1}/threads")).await.ok();
            let event = format!("/_matrix/client/v3/rooms/{room}/event/{root}");
            let event = client.get(&event).await.ok();
            let found = client
                .post("/_matrix/client/v3/search", search.clone())
                .await
                .ok();
            let events = &found["search_categories"]["room_events"]["results"];
            for answer in [&related, &threads, &event, events] {
                assert_eq!(answer.to_string().contains("secret"), open, "{answer}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_deactivated_user_leaves_all_rooms_and_invitations() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let base = "/_matrix/client/v3";
        let mut rooms = Vec::new();
        for rule in ["public", "invite", "knock"] {
            let rule = json!({ "join_rule": rule });
            let state = json!({ "type": "m.room.join_rules", "state_key": "", "content": rule });
            let plan = json!({ "initial_state": [state] });
            let room = bob.post(&format!("{base}/createRoom"), plan).await.ok();
            rooms.push(room["room_id"].as_str().unwrap().to_owned());
        }
        let [open, invited, knocked] = &rooms[..] else {
            panic!("three rooms");
        };
        alice
            .post(&format!("{base}/join/{open}"), json!({}))
            .await
            .ok();
        let body = json!({ "user_id": alice.user_id });
        bob.post(&format!("{base}/rooms/{invited}/invite"), body)
            .await
            .ok();
        alice
            .post(&format!("{base}/knock/{knocked}"), json!({}))
            .await
            .ok();
        let user_id = ruma::UserId::parse(&alice.user_id).unwrap();
        let accounts = server.engine().accounts();
        accounts.deactivate(&user_id, false).await.unwrap();
        for room in rooms {
            let path = format!("{base}/rooms/{room}/state/m.room.member/{}", alice.user_id);
            let left = async {
                while bob.get(&path).await.ok()["membership"] != "leave" {
                    tokio::task::yield_now().await;
                }
            };
            let patience = std::time::Duration::from_secs(10);
            tokio::time::timeout(patience, left).await.expect(&room);
        }
        let path = format!("{base}/register/available?username=alice");
        bob.get(&path).await.is_refused(400, "M_USER_IN_USE");
    })
    .await;
}
