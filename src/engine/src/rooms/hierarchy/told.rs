//! What other servers tell of rooms that this one isn't in: the rooms themselves, and what is below them.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#discovering-rooms-within-spaces>

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use parley_protocol::StateEvent;
use quick_cache::{Weighter, sync::Cache};
use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, ServerName, event_id,
    room::{RoomSummary, RoomType},
};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::{Child, Elsewhere, Known, Step, in_order};
use crate::{
    remote::{RemoteError, SpaceRooms},
    rooms::{Rooms, summaries::tellable},
};

/// How long an answer holds, in milliseconds.
const HOLDS_MS: i64 = 5 * 60 * 1_000;
/// Answers are kept up to about so many bytes.
const BYTES: u64 = 16 * 1024 * 1024;
/// Children of one space that are read of an answer.
const MAX_CHILDREN: usize = 5_000;
/// Servers that are asked for one room.
const MAX_SERVERS: usize = 3;
/// Rooms that are asked for at once, and for one answer to a client.
const AT_ONCE: usize = 10;
const MAX_ASKED: usize = 100;
/// How many of the rooms that are next are looked at for some to be asked for at once.
const AHEAD: usize = 50;
/// How long a client waits for what others tell.
const PATIENCE: Duration = Duration::from_secs(20);

/// What another server tells of a room.
#[derive(Debug)]
pub(in crate::rooms) struct Told {
    pub(in crate::rooms) summary: RoomSummary,
    /// Its children, in their order.
    pub(super) children: Vec<Child>,
    /// Those of them that the server knows, as they look like from outside.
    summaries: HashMap<OwnedRoomId, RoomSummary>,
    /// Those that users of this server may not see.
    inaccessible: HashSet<OwnedRoomId>,
    /// How large the answer was.
    bytes: u64,
}

impl Told {
    /// Reads an answer. Of what is below the room, what makes no sense is left out.
    fn read(room_id: &RoomId, answer: &SpaceRooms) -> Result<Self, serde_json::Error> {
        #[derive(serde::Deserialize)]
        struct Room<'a> {
            #[serde(borrow)]
            children_state: Option<Vec<&'a RawValue>>,
        }
        let room: Room<'_> = serde_json::from_str(answer.room.get())?;
        let summary = read_summary(&answer.room)?;
        if summary.room_id != room_id {
            return Err(serde::de::Error::custom("the answer is of another room"));
        }
        let is_space = summary.room_type == Some(RoomType::Space);
        let events = room.children_state.unwrap_or_default();
        let events: Vec<Arc<StateEvent>> = events
            .iter()
            .take(MAX_CHILDREN)
            .filter(|_| is_space)
            .filter_map(|event| StateEvent::parse(event_id!("$told").to_owned(), event.get()))
            .filter(|event| event.event_type.to_string() == "m.space.child")
            .map(Arc::new)
            .collect();
        let summaries = answer.children.iter().take(MAX_CHILDREN);
        let summaries = summaries.filter_map(|summary| read_summary(summary).ok());
        let texts = answer.children.iter().map(|child| child.get().len());
        let bytes = answer.room.get().len() + texts.sum::<usize>();
        let inaccessible = answer.inaccessible.iter().take(MAX_CHILDREN);
        Ok(Self {
            summary,
            children: in_order(events.iter()),
            summaries: summaries
                .map(|summary| (summary.room_id.clone(), summary))
                .collect(),
            inaccessible: inaccessible.cloned().collect(),
            bytes: bytes as u64,
        })
    }
}

fn read_summary(json: &RawValue) -> Result<RoomSummary, serde_json::Error> {
    let mut summary: RoomSummary = serde_json::from_str(json.get())?;
    summary.join_rule = tellable(summary.join_rule);
    Ok(summary)
}

/// What a server told of a room, and until when it holds.
type Kept = (i64, Arc<Told>);
/// Who told it, and of which room. A server that lies does so in its own name only.
type Place = (OwnedServerName, OwnedRoomId);

#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<Place, Kept> for ByBytes {
    fn weight(&self, _: &Place, (_, told): &Kept) -> u64 {
        // What it is made into is larger than the text.
        1_000 + told.bytes * 2
    }
}

/// What was told lately.
#[derive(Debug)]
pub(in crate::rooms) struct Hearsay(Cache<Place, Kept, ByBytes>);

impl Default for Hearsay {
    fn default() -> Self {
        Self(Cache::with_weighter(1_000, BYTES, ByBytes))
    }
}

/// What is asked of others for one answer to a client.
#[derive(Debug)]
pub(super) struct Asking {
    /// The rooms that were asked for, with what was told of them.
    answers: HashMap<OwnedRoomId, Option<Arc<Told>>>,
    until: Instant,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            answers: HashMap::new(),
            until: Instant::now() + PATIENCE,
        }
    }
}

impl Asking {
    /// What was told of a room.
    pub(super) fn answer(&self, room_id: &RoomId) -> Option<Arc<Told>> {
        self.answers.get(room_id).cloned().flatten()
    }

    /// Whether a room is to be asked for: of one that is no space it is enough what its parent's server told.
    fn wants(&self, room_id: &RoomId, elsewhere: &Elsewhere) -> bool {
        let summary = elsewhere.summary.as_ref();
        let is_told = summary.is_some_and(|summary| summary.room_type != Some(RoomType::Space));
        !is_told && !self.answers.contains_key(room_id)
    }
}

impl Rooms {
    /// A room that this server isn't in; `None` if there is nobody to ask, or nothing to see. `told` is what the server
    /// that named it said.
    pub(super) fn elsewhere(
        &self,
        room_id: &RoomId,
        via: &[OwnedServerName],
        told: Option<&Told>,
    ) -> Option<Elsewhere> {
        self.outside.get()?;
        if told.is_some_and(|told| told.inaccessible.contains(room_id)) {
            return None;
        }
        Some(Elsewhere {
            via: via.to_vec(),
            summary: told.and_then(|told| told.summaries.get(room_id)).cloned(),
        })
    }

    /// Asks for a room that is about to be looked at, if it must be, and at the same time for some that come next.
    pub(super) async fn ask_ahead(&self, asking: &mut Asking, step: &Step, next: &[Step]) {
        let wanted = |step: &'_ Step| match &step.known {
            Known::Elsewhere(elsewhere) => asking.wants(&step.room_id, elsewhere),
            Known::Here(_) => false,
        };
        if !wanted(step) {
            return;
        }
        let left = MAX_ASKED.saturating_sub(asking.answers.len());
        let steps = std::iter::once(step).chain(next.iter().rev().take(AHEAD));
        let steps = steps.filter(|step| wanted(step)).take(AT_ONCE.min(left));
        let mut rooms: HashMap<&OwnedRoomId, &[OwnedServerName]> = HashMap::new();
        for step in steps {
            if let Known::Elsewhere(elsewhere) = &step.known {
                rooms.entry(&step.room_id).or_insert(&elsewhere.via);
            }
        }
        let until = asking.until;
        let answers = rooms.into_iter().map(|(room_id, via)| async move {
            let told = timeout_at(until, self.told_of(room_id, via)).await;
            (room_id.clone(), told.ok().flatten())
        });
        let answers = join_all(answers).await;
        asking.answers.extend(answers);
    }

    /// What the first of some servers that knows a room tells of it.
    pub(in crate::rooms) async fn told_of(
        &self,
        room_id: &RoomId,
        via: &[OwnedServerName],
    ) -> Option<Arc<Told>> {
        let others = via.iter().filter(|server| *server != self.server_name());
        for server in others.take(MAX_SERVERS) {
            match self.told_by(server, room_id).await {
                Ok(told) => return Some(told),
                Err(error) => {
                    tracing::debug!(%room_id, %server, %error, "a server doesn't tell of a room");
                }
            }
        }
        None
    }

    async fn told_by(
        &self,
        server: &ServerName,
        room_id: &RoomId,
    ) -> Result<Arc<Told>, RemoteError> {
        let now = self.clock.now_ms();
        let place = (server.to_owned(), room_id.to_owned());
        if let Some((until, told)) = self.hearsay.0.get(&place)
            && until > now
        {
            return Ok(told);
        }
        let remote = self.outside.get().ok_or(RemoteError::NotAllowed)?;
        let answer = remote.hierarchy(server, room_id, false).await?;
        let told = Told::read(room_id, &answer);
        let told = Arc::new(told.map_err(|error| RemoteError::Nonsense(error.to_string()))?);
        self.hearsay
            .0
            .insert(place, (now + HOLDS_MS, Arc::clone(&told)));
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use ruma::room_id;
    use serde_json::{json, value::to_raw_value};

    use super::*;

    fn summary(room_id: &str, room_type: Option<&str>) -> serde_json::Value {
        json!({
            "room_id": room_id, "num_joined_members": 1, "world_readable": false,
            "guest_can_join": false, "join_rule": "public", "room_type": room_type,
        })
    }

    fn answer(room_type: Option<&str>) -> SpaceRooms {
        let mut room = summary("!s:b", room_type);
        room["children_state"] = json!([
            { "type": "m.space.child", "state_key": "!z:b", "sender": "@a:b", "origin_server_ts": 1, "content": { "via": ["b"], "order": "b" } },
            { "type": "m.space.child", "state_key": "!a:b", "sender": "@a:b", "origin_server_ts": 2, "content": { "via": ["b"], "order": "a" } },
            { "type": "m.room.name", "state_key": "!x:b", "sender": "@a:b", "origin_server_ts": 2, "content": { "via": ["b"] } },
            { "type": "m.space.child", "state_key": "!y:b" },
            7,
        ]);
        SpaceRooms {
            room: to_raw_value(&room).unwrap(),
            children: vec![
                to_raw_value(&summary("!z:b", None)).unwrap(),
                to_raw_value(&json!({ "room_id": "!a:b" })).unwrap(),
            ],
            inaccessible: vec![room_id!("!q:b").to_owned()],
        }
    }

    #[test]
    fn what_makes_no_sense_of_an_answer_is_left_out() {
        let told = Told::read(room_id!("!s:b"), &answer(Some("m.space"))).unwrap();
        let children: Vec<&str> = told
            .children
            .iter()
            .map(|child| child.room_id.as_str())
            .collect();
        assert_eq!(children, ["!a:b", "!z:b"]);
        assert_eq!(told.summaries.len(), 1);
        assert!(told.inaccessible.contains(room_id!("!q:b")));
    }

    #[test]
    fn a_space_whose_list_of_children_is_null_or_left_out_has_none() {
        let left_out = summary("!s:b", Some("m.space"));
        let mut null = left_out.clone();
        null["children_state"] = serde_json::Value::Null;
        for room in [left_out, null] {
            let answer = SpaceRooms {
                room: to_raw_value(&room).unwrap(),
                children: Vec::new(),
                inaccessible: Vec::new(),
            };
            let told = Told::read(room_id!("!s:b"), &answer).unwrap();
            assert_eq!(told.summary.room_type, Some(RoomType::Space));
            assert!(told.children.is_empty());
        }
    }

    #[test]
    fn what_is_no_space_has_no_children() {
        let told = Told::read(room_id!("!s:b"), &answer(None)).unwrap();
        assert!(told.children.is_empty());
    }

    #[test]
    fn an_answer_of_another_room_is_none() {
        assert!(Told::read(room_id!("!t:b"), &answer(Some("m.space"))).is_err());
    }
}
