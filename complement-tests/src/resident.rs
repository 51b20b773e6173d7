//! A user of another server in a room: what their server sends is as right or as wrong as a test wants it.

use std::sync::atomic::{AtomicUsize, Ordering};

use parley_protocol::{RoomVersion, versions::offered};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ruma::{
    CanonicalJsonObject, RoomVersionId,
    room_version_rules::{EventIdFormatVersion, RoomVersionRules},
    signatures::{hash_and_sign_event, reference_hash},
};
use serde_json::{Value, json};

use crate::{Peer, TestServer};

/// How many ids were given.
static GIVEN: AtomicUsize = AtomicUsize::new(0);

/// A user of a [`Peer`] in a room of a server.
#[derive(Debug)]
pub struct Resident<'a> {
    peer: &'a Peer,
    server: &'a TestServer,
    /// The room.
    pub room_id: String,
    /// The user.
    pub user_id: String,
    /// The rules of the room's version.
    pub rules: RoomVersionRules,
    /// The events that allow what the user says.
    pub auth_events: Vec<String>,
    /// The state of the room when the user joined, by the ids of its events.
    pub state: Vec<(String, Value)>,
    /// The event that the next is built on.
    pub last: String,
    depth: u64,
    transactions: u64,
}

impl<'a> Resident<'a> {
    /// A user of the peer, for a room that the peer makes up.
    pub fn of_made_up(peer: &'a Peer, server: &'a TestServer, version: &str) -> Self {
        let version = RoomVersionId::try_from(version).expect("the id of a version");
        let version = RoomVersion::new(&version).expect("the version is known");
        Self {
            peer,
            server,
            room_id: format!("!made-up:{}", peer.name()),
            user_id: format!("@mallory:{}", peer.name()),
            rules: version.rules().clone(),
            auth_events: Vec::new(),
            state: Vec::new(),
            last: format!("$nothing:{}", peer.name()),
            depth: 1,
            transactions: 0,
        }
    }

    /// Has a user of the peer join a room of the server.
    pub async fn join(peer: &'a Peer, server: &'a TestServer, room_id: &str) -> Self {
        let mut resident = Self::of_made_up(peer, server, "1");
        let user_id = resident.user_id.clone();
        let versions = offered()
            .iter()
            .map(|version| format!("&ver={}", version.id()));
        let versions: String = versions.collect();
        let path = format!(
            "/_matrix/federation/v1/make_join/{}/{}?{}",
            escaped(room_id),
            escaped(&user_id),
            versions.trim_start_matches('&')
        );
        let template = peer.get(server, &path).await.ok();
        let version = template["room_version"].as_str().unwrap_or("1");
        resident.rules = Self::of_made_up(peer, server, version).rules;
        room_id.clone_into(&mut resident.room_id);
        resident.depth = template["event"]["depth"].as_u64().unwrap_or_default();
        let (join_id, join) = resident.signed(template["event"].clone());
        let path = format!(
            "/_matrix/federation/v2/send_join/{}/{}",
            escaped(room_id),
            escaped(&join_id)
        );
        let answer = peer.put(server, &path, join).await.ok();
        for event in answer["state"].as_array().expect("a state") {
            let id = resident.id_of(event);
            let names_create = !resident.rules.authorization.room_create_event_id_as_room_id;
            let allows = match event["type"].as_str() {
                Some("m.room.power_levels") => true,
                Some("m.room.create") => names_create,
                _ => false,
            };
            if allows {
                resident.auth_events.push(id.clone());
            }
            resident.state.push((id, event.clone()));
        }
        resident.auth_events.push(join_id.clone());
        resident.last = join_id;
        resident
    }

    /// A message of the user, built on what they last saw, after a change; with its id. It isn't sent.
    pub fn message(&self, text: &str, change: impl FnOnce(&mut Value)) -> (String, Value) {
        let reference = |id: &String| match self.gives_ids() {
            true => json!([id, {}]),
            false => json!(id),
        };
        let auth_events: Vec<Value> = self.auth_events.iter().map(reference).collect();
        let mut event = json!({
            "room_id": self.room_id,
            "sender": self.user_id,
            "type": "m.room.message",
            "content": { "msgtype": "m.text", "body": text },
            "origin_server_ts": 1_700_000_000_000_u64,
            "prev_events": [reference(&self.last)],
            "auth_events": auth_events,
            "depth": self.depth + 1,
        });
        change(&mut event);
        self.signed(event)
    }

    /// An event with hashes, the signature of its server, and its id.
    pub fn signed(&self, event: Value) -> (String, Value) {
        let mut event: CanonicalJsonObject =
            serde_json::from_value(event).expect("an object of canonical JSON");
        if self.gives_ids() && !event.contains_key("event_id") {
            let count = GIVEN.fetch_add(1, Ordering::Relaxed);
            let id = format!("$event{count}:{}", self.peer.name());
            event.insert("event_id".to_owned(), id.into());
        }
        let name = self.peer.name().as_str();
        hash_and_sign_event(name, self.peer.pair(), &mut event, &self.rules.redaction)
            .expect("an event can be signed");
        let event = serde_json::to_value(event).expect("an object is JSON");
        (self.id_of(&event), event)
    }

    /// The id of an event.
    pub fn id_of(&self, event: &Value) -> String {
        if let (true, Some(id)) = (self.gives_ids(), event["event_id"].as_str()) {
            return id.to_owned();
        }
        let object: CanonicalJsonObject =
            serde_json::from_value(event.clone()).expect("an object of canonical JSON");
        let hash = reference_hash(&object, &self.rules).expect("an event has a hash");
        format!("${hash}")
    }

    fn gives_ids(&self) -> bool {
        self.rules.event_id_format == EventIdFormatVersion::V1
    }

    /// Sends events in one transaction; gives the answer.
    pub async fn send(&mut self, events: Vec<Value>) -> crate::Answer {
        self.transactions += 1;
        let path = format!(
            "/_matrix/federation/v1/send/{}-{}",
            self.last.trim_start_matches('$').replace(':', "-"),
            self.transactions
        );
        let body = json!({
            "origin": self.peer.name(),
            "origin_server_ts": 1_700_000_000_000_u64,
            "pdus": events,
        });
        self.peer.put(self.server, &path, body).await
    }

    /// Says something that is right; gives the id.
    pub async fn say(&mut self, text: &str) -> String {
        let (id, event) = self.message(text, |_| ());
        self.send(vec![event]).await.ok();
        self.last = id.clone();
        self.depth += 1;
        id
    }
}

/// A text as a part of a path.
fn escaped(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}
