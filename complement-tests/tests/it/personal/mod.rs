//! What belongs to single users, and what is fleeting.

mod account_data;
mod conditions;
mod nodes;
mod notifications;
mod presence;
mod push_rules;
mod pushers;
mod receipts;
mod tags;
mod typing;
mod unread;

use std::time::Duration;

use parley_conformance::Client;
use serde_json::{Value, json};

use crate::rooms::{BASE, create_public, join, quoted};

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A /sync that waits for nothing.
async fn sync(client: &Client, since: Option<&str>, more: &str) -> Value {
    let since = since.map_or(String::new(), |since| format!("&since={since}"));
    let path = format!("{BASE}/sync?timeout=0{since}{more}");
    client.get(&path).await.ok()
}

/// The token of a first /sync.
async fn token(client: &Client) -> String {
    next(&sync(client, None, "").await)
}

fn next(answer: &Value) -> String {
    answer["next_batch"].as_str().unwrap().to_owned()
}

/// Syncs on from a token until an answer holds what is looked for; what was found, and the next token.
async fn sync_until<T>(
    client: &Client,
    since: &str,
    find: impl Fn(&Value) -> Option<T>,
) -> (T, String) {
    let mut since = since.to_owned();
    let mut last = Value::Null;
    let search = async {
        loop {
            let path = format!("{BASE}/sync?timeout=5000&since={since}");
            last = client.get(&path).await.ok();
            since = next(&last);
            if let Some(found) = find(&last) {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, search).await;
    let found = found.unwrap_or_else(|_| panic!("the last answer was {last}"));
    (found, since)
}

/// The content of an event of a type in a list.
fn content(events: &Value, event_type: &str) -> Option<Value> {
    let events = events.as_array()?.iter();
    let mut contents = events.filter(|event| event["type"] == event_type);
    let found = contents.next()?["content"].clone();
    assert!(contents.next().is_none(), "{event_type} is there twice");
    Some(found)
}

/// A part of a room's section of a /sync.
fn joined<'a>(answer: &'a Value, room_id: &str) -> &'a Value {
    &answer["rooms"]["join"][room_id]
}

/// A public room with two members.
async fn room_of_two(one: &Client, other: &Client) -> String {
    let room_id = create_public(one).await;
    join(other, &room_id).await.ok();
    room_id
}

/// The path of something that is a user's.
fn own(client: &Client, rest: &str) -> String {
    format!("{BASE}/user/{}/{rest}", quoted(&client.user_id))
}

fn nothing() -> Value {
    json!({})
}
