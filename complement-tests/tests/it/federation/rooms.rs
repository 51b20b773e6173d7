//! Rooms with people on several servers.

use std::time::Duration;

use parley_conformance::{Answer, Client, TestServer, federated};
use serde_json::{Value, json};

use crate::rooms::{
    BASE, act_self, create, create_public, get_state, quoted, room_path, room_path_v1, say_related,
    set_state,
};

/// How long news may take from one server to another.
const ARRIVAL: Duration = Duration::from_secs(20);

/// Asks for joining a room by another server.
pub(super) async fn ask_to_join(client: &Client, room_id: &str, server: &TestServer) -> Answer {
    let path = format!(
        "{BASE}/join/{}?server_name={}",
        quoted(room_id),
        quoted(server.name())
    );
    client.post(&path, json!({})).await
}

/// Joins a room by another server.
pub(super) async fn join_by(client: &Client, room_id: &str, server: &TestServer) {
    ask_to_join(client, room_id, server).await.ok();
}

pub(super) async fn say(client: &Client, room_id: &str, text: &str) -> String {
    let path = format!(
        "{BASE}/rooms/{}/send/m.room.message/{}",
        quoted(room_id),
        quoted(text)
    );
    let body = json!({ "msgtype": "m.text", "body": text });
    let answer = client.put(&path, body).await.ok();
    answer["event_id"].as_str().unwrap().to_owned()
}

/// Syncs until something is told that fits.
pub(super) async fn sync_until(client: &Client, fits: impl Fn(&Value) -> bool) -> Value {
    sync_from(client, &Value::Null, fits).await
}

/// The same with what came after an answer, where there is one.
pub(super) async fn sync_from(
    client: &Client,
    before: &Value,
    fits: impl Fn(&Value) -> bool,
) -> Value {
    let after = |told: &Value| match told["next_batch"].as_str() {
        Some(token) => format!("&since={token}"),
        None => String::new(),
    };
    let mut since = after(before);
    let told = async {
        loop {
            let path = format!("{BASE}/sync?timeout=1000{since}");
            let told = client.get(&path).await.ok();
            since = after(&told);
            if fits(&told) {
                return told;
            }
        }
    };
    tokio::time::timeout(ARRIVAL, told)
        .await
        .expect("it is told in time")
}

/// Waits until somebody is told of an event.
pub(super) async fn hear(client: &Client, room_id: &str, event_id: &str) {
    sync_until(client, |told| {
        let events = told["rooms"]["join"][room_id]["timeline"]["events"].as_array();
        let mut events = events.into_iter().flatten();
        events.any(|event| event["event_id"] == event_id)
    })
    .await;
}

/// What was said in a room, as somebody reads it, newest first.
pub(super) async fn read(client: &Client, room_id: &str) -> Vec<String> {
    let mut said = Vec::new();
    let mut from = String::new();
    loop {
        let room = quoted(room_id);
        let path = format!("{BASE}/rooms/{room}/messages?dir=b&limit=20{from}");
        let page = client.get(&path).await.ok();
        let events = page["chunk"].as_array().unwrap();
        said.extend(
            events
                .iter()
                .filter_map(|event| event["content"]["body"].as_str())
                .map(ToOwned::to_owned),
        );
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None => return said,
        }
    }
}

async fn membership(client: &Client, room_id: &str, user_id: &str) -> Value {
    let state = get_state(client, room_id, "m.room.member", user_id).await;
    state.ok()["membership"].clone()
}

/// Waits until somebody's server knows what another is in a room.
pub(super) async fn becomes(client: &Client, room_id: &str, other: &Client, wanted: &str) {
    let known = async {
        loop {
            let path = format!("m.room.member/{}", quoted(&other.user_id));
            let path = format!("{BASE}/rooms/{}/state/{path}", quoted(room_id));
            let answer = client.get(&path).await;
            if answer.body["membership"] == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(ARRIVAL, known)
        .await
        .expect("it is known in time");
}

#[tokio::test]
async fn people_of_two_servers_talk_in_a_room_and_read_what_was_said_before() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create_public(&alice).await;
        for count in 0..130 {
            say(&alice, &room_id, &format!("{count:03}")).await;
        }
        join_by(&bob, &room_id, &servers[0]).await;
        let hello = say(&bob, &room_id, "hello").await;
        hear(&alice, &room_id, &hello).await;
        let welcome = say(&alice, &room_id, "welcome").await;
        hear(&bob, &room_id, &welcome).await;
        let said = read(&bob, &room_id).await;
        assert_eq!(said.len(), 132);
        assert_eq!(said, read(&alice, &room_id).await);
    })
    .await;
}

#[tokio::test]
async fn people_are_invited_to_rooms_of_other_servers_and_leave_them() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create(
            &alice,
            json!({ "name": "harbour", "invite": [bob.user_id] }),
        )
        .await;
        let told = sync_until(&bob, |told| told["rooms"]["invite"][&room_id].is_object()).await;
        let shown = told["rooms"]["invite"][&room_id]["invite_state"]["events"].clone();
        let has = |event_type: &str| {
            let events = shown.as_array().unwrap();
            events.iter().any(|event| event["type"] == event_type)
        };
        assert!(has("m.room.name") && has("m.room.create") && has("m.room.member"));
        act_self(&bob, &room_id, "join").await.ok();
        assert_eq!(membership(&bob, &room_id, &alice.user_id).await, "join");
        let hello = say(&bob, &room_id, "hello").await;
        hear(&alice, &room_id, &hello).await;
        act_self(&bob, &room_id, "leave").await.ok();
        becomes(&alice, &room_id, &bob, "leave").await;
    })
    .await;
}

#[tokio::test]
async fn an_invitation_from_another_server_is_declined() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create(&alice, json!({ "invite": [bob.user_id] })).await;
        let told = sync_until(&bob, |told| told["rooms"]["invite"][&room_id].is_object()).await;
        act_self(&bob, &room_id, "leave").await.ok();
        let since = told["next_batch"].as_str().unwrap();
        let told = bob
            .get(&format!("{BASE}/sync?timeout=0&since={since}"))
            .await
            .ok();
        assert!(told["rooms"]["leave"][&room_id].is_object(), "{told}");
        assert_eq!(membership(&alice, &room_id, &bob.user_id).await, "leave");
        let again = ask_to_join(&bob, &room_id, &servers[0]).await;
        again.is_refused(403, "M_FORBIDDEN");
        let nowhere = act_self(&bob, &room_id, "join").await;
        nowhere.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn three_servers_agree_on_a_room_whose_state_they_change_at_once() {
    federated(3, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let carol = servers[2].register("carol").await;
        let plan = json!({
            "preset": "public_chat",
            "power_level_content_override": { "state_default": 0 },
        });
        let room_id = create(&alice, plan).await;
        join_by(&bob, &room_id, &servers[0]).await;
        // As long as Bob's server doesn't know who is there, nobody joins by it.
        let members = format!("{BASE}/rooms/{}/joined_members", quoted(&room_id));
        bob.get(&members).await.ok();
        join_by(&carol, &room_id, &servers[1]).await;
        // Who doesn't know of her server doesn't tell it.
        becomes(&alice, &room_id, &carol, "join").await;
        let topic = |text: &str| json!({ "topic": text });
        let (one, two, three) = (topic("alice"), topic("bob"), topic("carol"));
        let set = tokio::join!(
            set_state(&alice, &room_id, "m.room.topic", "", one),
            set_state(&bob, &room_id, "m.room.topic", "", two),
            set_state(&carol, &room_id, "m.room.topic", "", three),
        );
        set.0.ok();
        set.1.ok();
        set.2.ok();
        // Whoever has heard the others' last words has heard what they set before.
        let clients = [&alice, &bob, &carol];
        let mut words = Vec::new();
        for client in clients {
            words.push(say(client, &room_id, &client.user_id).await);
        }
        for client in clients {
            for word in &words {
                hear(client, &room_id, word).await;
            }
        }
        let mut topics = Vec::new();
        for client in clients {
            let topic = get_state(client, &room_id, "m.room.topic", "").await;
            topics.push(topic.ok());
        }
        assert!(
            topics[0] == topics[1] && topics[1] == topics[2],
            "{topics:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn invitations_from_other_servers_are_blocked_or_ignored_as_the_invited_user_wants() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create(&alice, json!({})).await;
        let set = async |rules: Value| {
            let kind = "org.matrix.msc4155.invite_permission_config";
            let path = format!("{BASE}/user/{}/account_data/{kind}", quoted(&bob.user_id));
            bob.put(&path, rules).await.ok();
        };
        set(json!({ "blocked_users": [alice.user_id] })).await;
        crate::rooms::act(&alice, &room_id, "invite", &bob)
            .await
            .is_refused(403, "M_INVITE_BLOCKED");
        set(json!({ "ignored_users": [alice.user_id] })).await;
        crate::rooms::act(&alice, &room_id, "invite", &bob)
            .await
            .ok();
        let told = bob.get(&format!("{BASE}/sync?timeout=0")).await.ok();
        assert!(told["rooms"]["invite"].get(&room_id).is_none(), "{told}");
    })
    .await;
}

#[tokio::test]
async fn what_was_read_of_the_past_is_told_with_what_relates_to_it() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create_public(&alice).await;
        let root = say(&alice, &room_id, "root").await;
        let answer = say_related(&alice, &room_id, "answer", "m.thread", &root).await;
        let edit = say_related(&alice, &room_id, "root, edited", "m.replace", &root).await;
        join_by(&bob, &room_id, &servers[0]).await;
        let path = room_path(&room_id, "messages?dir=b&limit=50");
        let page = bob.get(&path).await.ok();
        let events = page["chunk"].as_array().unwrap();
        let told = events
            .iter()
            .find(|event| event["event_id"] == root.as_str());
        let told = &told.unwrap()["unsigned"]["m.relations"];
        assert_eq!(told["m.replace"]["event_id"], edit.as_str(), "{page}");
        let latest = &told["m.thread"]["latest_event"];
        assert_eq!(latest["event_id"], answer.as_str(), "{page}");
        let path = room_path_v1(&room_id, &format!("relations/{}", quoted(&root)));
        let related = bob.get(&path).await.ok();
        let ids: Vec<&str> = related["chunk"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["event_id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, [edit.as_str(), answer.as_str()]);
        let threads = bob.get(&room_path_v1(&room_id, "threads")).await.ok();
        assert_eq!(threads["chunk"][0]["event_id"], root.as_str());
    })
    .await;
}
