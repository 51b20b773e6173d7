//! Rooms, as their members see them.

mod content;
mod creation;
mod delayed;
mod direct;
mod edits;
mod former;
mod history;
mod ignoring;
mod invitations;
mod knocking;
mod limits;
mod membership;
mod names;
mod notices;
mod owned_state;
mod paging;
mod previews;
mod redactions;
mod relations;
mod reports;
mod search;
mod sending;
mod spaces;
mod state;
mod threads;
mod upgrades;

use std::sync::atomic::{AtomicU64, Ordering};

use parley_conformance::{Answer, Client};
use serde_json::{Value, json};

/// The base of all paths.
pub(crate) const BASE: &str = "/_matrix/client/v3";

/// A text as a part of a path.
pub(crate) fn quoted(text: &str) -> String {
    let mut path = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                path.push(char::from(byte));
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// The path of a room.
pub(crate) fn room_path(room_id: &str, rest: &str) -> String {
    format!("{BASE}/rooms/{}/{rest}", quoted(room_id))
}

/// Makes a room; its id.
pub(crate) async fn create(client: &Client, plan: Value) -> String {
    let answer = client.post(&format!("{BASE}/createRoom"), plan).await.ok();
    answer["room_id"].as_str().unwrap().to_owned()
}

/// Makes a room that anyone may join.
pub(crate) async fn create_public(client: &Client) -> String {
    create(client, json!({ "preset": "public_chat" })).await
}

pub(crate) async fn join(client: &Client, room_id: &str) -> Answer {
    client
        .post(&format!("{BASE}/join/{}", quoted(room_id)), json!({}))
        .await
}

/// Does something to a member: `invite`, `kick`, `ban`, `unban`.
pub(crate) async fn act(client: &Client, room_id: &str, action: &str, target: &Client) -> Answer {
    let body = json!({ "user_id": target.user_id });
    client.post(&room_path(room_id, action), body).await
}

/// Does something to oneself: `join`, `leave`, `forget`.
pub(crate) async fn act_self(client: &Client, room_id: &str, action: &str) -> Answer {
    client.post(&room_path(room_id, action), json!({})).await
}

pub(crate) async fn set_state(
    client: &Client,
    room_id: &str,
    event_type: &str,
    state_key: &str,
    content: Value,
) -> Answer {
    let path = format!("state/{event_type}/{}", quoted(state_key));
    client.put(&room_path(room_id, &path), content).await
}

pub(crate) async fn get_state(
    client: &Client,
    room_id: &str,
    event_type: &str,
    state_key: &str,
) -> Answer {
    let path = format!("state/{event_type}/{}", quoted(state_key));
    client.get(&room_path(room_id, &path)).await
}

/// Sends any event once; the answer.
pub(crate) async fn send(
    client: &Client,
    room_id: &str,
    event_type: &str,
    content: Value,
) -> Answer {
    static SENT: AtomicU64 = AtomicU64::new(0);
    let transaction = SENT.fetch_add(1, Ordering::Relaxed);
    let path = format!("send/{event_type}/once{transaction}");
    client.put(&room_path(room_id, &path), content).await
}

/// Sends a text that relates to an event; the id.
pub(crate) async fn say_related(
    client: &Client,
    room_id: &str,
    text: &str,
    rel_type: &str,
    target: &str,
) -> String {
    let content = json!({
        "msgtype": "m.text",
        "body": text,
        "m.new_content": { "msgtype": "m.text", "body": text },
        "m.relates_to": { "rel_type": rel_type, "event_id": target },
    });
    event_id(&send(client, room_id, "m.room.message", content).await.ok())
}

/// Redacts an event; the answer.
pub(crate) async fn redact(client: &Client, room_id: &str, target: &str) -> Answer {
    let path = format!("redact/{}/{}", quoted(target), quoted(target));
    client.put(&room_path(room_id, &path), json!({})).await
}

/// The bodies of the texts in a list of events.
pub(crate) fn bodies(events: &Value) -> Vec<&str> {
    events
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["content"]["body"].as_str())
        .collect()
}

/// A path of the first version of an API under a room.
pub(crate) fn room_path_v1(room_id: &str, rest: &str) -> String {
    format!("/_matrix/client/v1/rooms/{}/{rest}", quoted(room_id))
}

/// Sends a text; the answer.
pub(crate) async fn try_say(
    client: &Client,
    room_id: &str,
    text: &str,
    transaction: &str,
) -> Answer {
    let path = format!("send/m.room.message/{transaction}");
    let content = json!({ "msgtype": "m.text", "body": text });
    client.put(&room_path(room_id, &path), content).await
}

/// Sends a text, with the text as transaction id; the id of the event.
pub(crate) async fn say(client: &Client, room_id: &str, text: &str) -> String {
    let answer = try_say(client, room_id, text, text).await.ok();
    event_id(&answer)
}

pub(crate) fn event_id(answer: &Value) -> String {
    answer["event_id"].as_str().unwrap().to_owned()
}

/// An event by its id.
pub(crate) async fn get_event(client: &Client, room_id: &str, event_id: &str) -> Answer {
    let path = format!("event/{}", quoted(event_id));
    client.get(&room_path(room_id, &path)).await
}
