//! Events as clients get them, and the memory of those that were read lately.

use std::{collections::HashMap, sync::Arc};

use parley_protocol::{
    RoomVersion, StateEvent, client_event::ClientFields, redaction::redacted_content,
};
use parley_storage::{
    Database, StorageError,
    commit::{Assigned, NewEvent},
    events::EventRow,
};
use quick_cache::{Weighter, sync::Cache};
use ruma::{OwnedEventId, OwnedUserId, RoomVersionId, events::room::member::MembershipState};
use serde::Deserialize;

use super::{room::Room, transactions::as_given};
use crate::{EngineError, Result};

/// Bytes of events that are kept in memory after they were read.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// About what an event takes beside its body.
const EVENT_OVERHEAD: u64 = 300;

/// An event ready to be sent to any client.
#[derive(Clone, Debug)]
pub struct TimelineEvent {
    /// Its position.
    pub position: i64,
    /// Its room.
    pub room_nid: i64,
    /// Its id.
    pub event_id: OwnedEventId,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// Its type.
    pub event_type: Box<str>,
    /// Its state key, if it is a state event.
    pub state_key: Option<Box<str>>,
    /// Milliseconds since the epoch.
    pub origin_server_ts: i64,
    /// What is the same for every receiver, see [`ClientFields::body`].
    pub body: Box<str>,
    /// The device that sent it, and its transaction id.
    pub origin: Option<(i64, Box<str>)>,
    /// The snapshot of the state after it.
    pub snapshot: i64,
    /// The state event whose place it took.
    pub replaced: Option<Box<Replaced>>,
    /// The position of the redaction that applies to it.
    pub redacted_by: Option<i64>,
    /// Whether more of the room's state may have changed with it than its own place: it brought forks of the room together.
    pub settles: bool,
    /// Whether it came beside the room's head: in the room's graph it doesn't follow what came before it.
    pub is_beside: bool,
    /// Whether some of what it is built on isn't in the timeline.
    pub after_gap: bool,
    content_bytes: usize,
}

/// What a client is told of the state event that another took the place of.
#[derive(Clone, Debug)]
pub struct Replaced {
    /// Its position.
    pub position: i64,
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its content, JSON.
    pub content: Box<str>,
    /// Who sent it.
    pub sender: OwnedUserId,
}

/// Whether redactions name their target in their content in rooms of a version; in those of none that is known, as in the
/// newest.
pub(super) fn redacts_in_content(room_version: Option<&str>) -> bool {
    let id = room_version.and_then(|id| RoomVersionId::try_from(id).ok());
    id.and_then(|id| RoomVersion::new(&id))
        .is_none_or(|version| version.redacts_in_content())
}

/// What stands before the content in a body.
const CONTENT_START: usize = "\"content\":".len();

impl TimelineEvent {
    /// Reads it from the database's row.
    ///
    /// # Errors
    /// If the stored JSON is no event.
    pub fn from_row(row: EventRow) -> Result<Self> {
        let corrupt = |what: String| {
            EngineError::Storage(StorageError::Corrupt(format!(
                "event {}: {what}",
                row.event_id
            )))
        };
        let fields = ClientFields::parse(&row.json).map_err(|error| corrupt(error.to_string()))?;
        let sender = OwnedUserId::try_from(fields.sender.as_ref())
            .map_err(|error| corrupt(error.to_string()))?;
        let replaced = row
            .replaces
            .zip(row.replaced_id)
            .zip(row.replaced_json.as_deref())
            .and_then(|((position, event_id), json)| Replaced::parse(position, event_id, json))
            .map(Box::new);
        let event_type = fields.event_type.as_ref();
        Ok(Self {
            position: row.position,
            room_nid: row.room_nid,
            body: fields.body(&row.event_id, || {
                redacts_in_content(row.room_version.as_deref())
            }),
            content_bytes: fields.content.get().len(),
            sender,
            event_type: event_type.into(),
            state_key: fields
                .state_key
                .map(|key| key.into_owned().into_boxed_str()),
            origin_server_ts: fields.origin_server_ts.get().into(),
            origin: row
                .device_nid
                .zip(row.transaction_id.as_deref())
                .map(|(device, id)| (device, as_given(event_type, id).into())),
            snapshot: row.snapshot,
            replaced,
            redacted_by: row.redacted_by,
            settles: row.current_snapshot.is_some(),
            is_beside: row
                .current_snapshot
                .is_some_and(|current| current != row.snapshot),
            after_gap: row.after_gap,
            event_id: row.event_id,
        })
    }

    /// Makes it from an event that has just been committed.
    ///
    /// # Errors
    /// If its JSON is no event, which a built event's always is.
    pub fn from_new(room: &Room, event: &NewEvent, replaced: Option<&StateEvent>) -> Result<Self> {
        let fields = ClientFields::parse(&event.json)
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        let position = event.position.get();
        let replaces = event.replaces.as_ref().map_or(0, Assigned::get);
        let origin = event.origin.as_ref().and_then(|(device, id)| {
            let id = as_given(&event.event_type, id.as_deref()?);
            Some((*device, id.into()))
        });
        Ok(Self {
            position,
            room_nid: room.nid(),
            event_id: event.event_id.clone(),
            sender: event.sender.clone(),
            event_type: event.event_type.clone().into_boxed_str(),
            state_key: event.state_key.clone().map(String::into_boxed_str),
            origin_server_ts: event.origin_server_ts,
            body: fields.body(&event.event_id, || room.version().redacts_in_content()),
            content_bytes: fields.content.get().len(),
            origin,
            snapshot: event.snapshot.id(position),
            replaced: replaced.map(|replaced| {
                Box::new(Replaced {
                    position: replaces,
                    event_id: replaced.event_id.clone(),
                    content: replaced.content.get().into(),
                    sender: replaced.sender.clone(),
                })
            }),
            redacted_by: event.redacted_by.as_ref().map(Assigned::get),
            settles: event.changes_other_places(),
            is_beside: event.settled.as_ref().is_some_and(|settled| {
                settled.snapshot.id(position) != event.snapshot.id(position)
            }),
            after_gap: event.after_gap,
        })
    }

    /// Its content, JSON.
    pub fn content(&self) -> &str {
        self.body
            .get(CONTENT_START..CONTENT_START + self.content_bytes)
            .unwrap_or("{}")
    }

    /// The membership that it gives, if it is a member event.
    pub fn membership(&self) -> Option<MembershipState> {
        if self.event_type.as_ref() != "m.room.member" {
            return None;
        }
        membership_in(self.content())
    }

    /// Whether the user of a member event was joined already: then it just changes how they look.
    pub fn was_joined(&self) -> bool {
        let replaced = self.replaced.as_deref();
        replaced.and_then(|replaced| membership_in(&replaced.content))
            == Some(MembershipState::Join)
    }

    /// Whether it took the place of the event at a position.
    pub fn has_replaced(&self, position: i64) -> bool {
        self.replaced
            .as_ref()
            .is_some_and(|replaced| replaced.position == position)
    }

    /// The same event, after that whose place it took was redacted.
    pub(crate) fn with_redacted_predecessor(&self, redacted: &Self) -> Self {
        let mut event = self.clone();
        if let Some(replaced) = &mut event.replaced {
            replaced.content = redacted.content().into();
        }
        event
    }

    /// What is left of it when it is redacted, without what it took the place of.
    pub(crate) fn redacted(&self, version: &RoomVersion) -> Self {
        let content = redacted_content(&self.event_type, self.content(), version);
        let rest = self.body.get(CONTENT_START + self.content_bytes..);
        let mut event = self.clone();
        event.body = format!("\"content\":{content}{}", rest.unwrap_or_default()).into();
        event.content_bytes = content.len();
        event.replaced = None;
        event
    }

    /// Whether it is a state event.
    pub fn is_state(&self) -> bool {
        self.state_key.is_some()
    }
}

/// The membership in the content of a member event.
fn membership_in(content: &str) -> Option<MembershipState> {
    #[derive(Deserialize)]
    struct Content {
        membership: MembershipState,
    }
    serde_json::from_str::<Content>(content)
        .ok()
        .map(|content| content.membership)
}

impl Replaced {
    fn parse(position: i64, event_id: OwnedEventId, json: &str) -> Option<Self> {
        let fields = ClientFields::parse(json).ok()?;
        Some(Self {
            position,
            event_id,
            content: fields.content.get().into(),
            sender: OwnedUserId::try_from(fields.sender.as_ref()).ok()?,
        })
    }
}

#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<i64, Arc<TimelineEvent>> for ByBytes {
    fn weight(&self, _: &i64, event: &Arc<TimelineEvent>) -> u64 {
        event.body.len() as u64 + EVENT_OVERHEAD
    }
}

/// Reads events, keeping those that were read lately.
#[derive(Debug)]
pub struct Events {
    database: Database,
    cache: Cache<i64, Arc<TimelineEvent>, ByBytes>,
}

impl Events {
    /// Reads from `database`.
    pub fn new(database: Database) -> Self {
        let cache = Cache::with_weighter(50_000, CACHE_BYTES, ByBytes);
        Self { database, cache }
    }

    /// The events at these positions, in their order. Those that don't exist are left out.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn at(&self, positions: &[i64]) -> Result<Vec<Arc<TimelineEvent>>> {
        let mut found: Vec<Option<Arc<TimelineEvent>>> = positions
            .iter()
            .map(|position| self.cache.get(position))
            .collect();
        let missing: Vec<i64> = positions
            .iter()
            .zip(&found)
            .filter(|(_, event)| event.is_none())
            .map(|(position, _)| *position)
            .collect();
        if !missing.is_empty() {
            let read: HashMap<i64, Arc<TimelineEvent>> = self
                .keep(self.database.events_at(missing).await?)?
                .into_iter()
                .map(|event| (event.position, event))
                .collect();
            for (slot, position) in found.iter_mut().zip(positions) {
                if slot.is_none() {
                    *slot = read.get(position).cloned();
                }
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// Makes events of rows, and keeps them.
    ///
    /// # Errors
    /// If a row is no event.
    pub fn keep(&self, rows: Vec<EventRow>) -> Result<Vec<Arc<TimelineEvent>>> {
        let events = Self::pass(rows)?;
        for event in &events {
            self.cache.insert(event.position, event.clone());
        }
        Ok(events)
    }

    /// Makes events of rows, without keeping them: for who goes through many events once.
    ///
    /// # Errors
    /// If a row is no event.
    pub fn pass(rows: Vec<EventRow>) -> Result<Vec<Arc<TimelineEvent>>> {
        rows.into_iter()
            .map(|row| Ok(Arc::new(TimelineEvent::from_row(row)?)))
            .collect()
    }

    /// Forgets an event that has changed, as a redaction changes one.
    pub fn forget(&self, position: i64) {
        self.cache.remove(&position);
    }

    /// Forgets the events that took the place of one that has changed, as they tell its content.
    pub fn forget_replacing(&self, changed: &TimelineEvent) {
        if changed.is_state() {
            self.cache
                .retain(|_, event| !event.has_replaced(changed.position));
        }
    }
}
