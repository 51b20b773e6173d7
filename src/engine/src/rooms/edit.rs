//! Building events on a room's head.

pub(super) mod received;
pub(super) mod rewrite;

use std::sync::Arc;

use parley_protocol::{
    BuildError, BuiltEvent, EventDraft, Placement, ServerKey, StateEvent, auth, build,
    policy::PolicyServer, relation::Relation,
};
use parley_storage::{
    commit::{
        Assigned, Completion, NewEvent, NewOutlier, NewRedaction, NewRoom, NewSnapshot, Rewrite,
        RoomEffect, RoomWrite,
    },
    state::parent_height,
};
use ruma::{
    OwnedEventId, OwnedUserId,
    events::{
        TimelineEventType,
        room::{history_visibility::HistoryVisibility, join_rules::JoinRule},
    },
};

use super::{
    partial::Members,
    policy::{Unsigned, Vouched, looks_at},
    restricted::check_voucher,
    room::{Head, Room},
    state::{RoomState, StateEntry, membership_of},
};
use crate::{EngineError, Result};

/// Events that one may be built on; a room whose graph has more ends is brought together by several events.
const MAX_PREV_EVENTS: usize = 20;

/// Who sent an event: a device, and the transaction id that it gave.
pub type Origin = Option<(i64, Option<String>)>;

/// New events of a room in the making, each allowed by the state before it. Dropping it undoes them.
#[derive(Debug)]
pub struct Edit<'a> {
    room: &'a Room,
    key: &'a ServerKey,
    head: Head,
    /// What the room's policy server has signed; `None` where it isn't asked.
    vouched: Option<&'a Vouched>,
    unsigned: Vec<Unsigned>,
    base_revision: i64,
    new_room: bool,
    changes_state: bool,
    changes_openness: bool,
    outliers: Vec<Arc<NewOutlier>>,
    past: Vec<Arc<NewEvent>>,
    events: Vec<NewEntry>,
    effects: Vec<RoomEffect>,
    rewrite: Option<Box<Rewrite>>,
    members: Option<Members>,
}

/// A new event, and what publishing it needs.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// The event.
    pub event: Arc<NewEvent>,
    /// The state event that it replaces.
    pub replaced: Option<Arc<StateEvent>>,
}

/// What is published of an edit once it is committed.
#[derive(Clone, Debug)]
pub struct RoomPublication {
    /// The room.
    pub room: Arc<Room>,
    /// Whether the room is stored for the first time.
    pub is_new: bool,
    /// The generation of the head that it was built on.
    pub generation: u64,
    /// The new events.
    pub events: Vec<NewEntry>,
    /// Positions and numbers of what they, or what is read of the past, redact.
    pub(crate) redacted: Vec<i64>,
    /// The state after them, if they change it.
    pub state: Option<Arc<RoomState>>,
    /// Whether all members are known from here on, if that changes with the new events.
    pub(crate) members: Option<Members>,
    /// What changes of what was stored before.
    pub(crate) rewritten: Option<Rewritten>,
}

/// What changes of a room in memory without a new event.
#[derive(Clone, Debug)]
pub(crate) struct Rewritten {
    /// Positions of events that leave the timeline.
    pub(crate) rejected: Vec<i64>,
    /// Set if nothing of the state is missing any more.
    pub(crate) completion: Option<Completion>,
}

impl<'a> Edit<'a> {
    pub(super) fn new(room: &'a Room, key: &'a ServerKey, head: Head) -> Self {
        let base_revision = head.revision;
        let new_room = head.state.is_none();
        Self {
            room,
            key,
            head,
            vouched: None,
            unsigned: Vec::new(),
            base_revision,
            new_room,
            changes_state: false,
            changes_openness: false,
            outliers: Vec::new(),
            past: Vec::new(),
            events: Vec::new(),
            effects: Vec::new(),
            rewrite: None,
            members: None,
        }
    }

    /// The state of the room, the new events included.
    ///
    /// # Errors
    /// If the room has no create event yet.
    pub fn state(&self) -> Result<&Arc<RoomState>> {
        self.head
            .state
            .as_ref()
            .ok_or_else(|| EngineError::Internal("a room without create event".to_owned()))
    }

    /// Has the room's policy server, if there is one, have a say in what is appended.
    pub(super) fn need_policy(&mut self, vouched: &'a Vouched) {
        self.vouched = Some(vouched);
    }

    /// What was appended and lacks the signature of the policy server: then nothing of it can be committed.
    pub(super) fn take_unsigned(&mut self) -> Vec<Unsigned> {
        std::mem::take(&mut self.unsigned)
    }

    /// The room.
    pub fn room(&self) -> &Room {
        self.room
    }

    /// Has something else happen together with the new events.
    pub fn effect(&mut self, effect: RoomEffect) {
        self.effects.push(effect);
    }

    /// Adds an event.
    ///
    /// # Errors
    /// `M_FORBIDDEN` with the reason if the room doesn't allow it, `M_TOO_LARGE` if it is over a limit.
    pub fn append(&mut self, draft: EventDraft, origin: Origin) -> Result<OwnedEventId> {
        self.append_redacting(draft, origin, None)
    }

    /// Adds an event that redacts another.
    ///
    /// # Errors
    /// As [`Edit::append`].
    pub fn append_redacting(
        &mut self,
        mut draft: EventDraft,
        origin: Origin,
        redaction: Option<NewRedaction>,
    ) -> Result<OwnedEventId> {
        let depth = self.head.depth + 1;
        let policy = self.policy_on(&draft)?;
        if let Some((vouched, _)) = &policy {
            vouched.fix(&mut draft);
        }
        let mut built = self.build(draft, depth)?;
        self.authorise(&built)?;
        if let Some((vouched, server)) = policy {
            self.unsigned.extend(vouched.sign(&mut built, server));
        }
        if let (Some(redaction), Some(state)) = (&redaction, &mut self.head.state) {
            let version = self.room.version();
            let mut redacted = state.clone();
            if Arc::make_mut(&mut redacted).redact(&redaction.event_id, &redaction.json, version) {
                *state = redacted;
                self.changes_state = true;
            }
        }
        Ok(self.push(built, depth, origin, redaction))
    }

    /// Who has a say in an event, and what they have signed.
    fn policy_on(&self, draft: &EventDraft) -> Result<Option<(&'a Vouched, PolicyServer)>> {
        let Some(vouched) = self.vouched else {
            return Ok(None);
        };
        let state_key = draft.state_key.as_deref();
        let server = looks_at(self.room, self.state()?, &draft.event_type, state_key);
        Ok(server.map(|server| (vouched, server)))
    }

    /// Adds an event that redacts one that isn't here, and may come later.
    ///
    /// # Errors
    /// As [`Edit::append`].
    pub(super) fn append_redacting_later(
        &mut self,
        draft: EventDraft,
        origin: Origin,
        target: OwnedEventId,
    ) -> Result<OwnedEventId> {
        let event_id = self.append(draft, origin)?;
        if let Some(entry) = self.events.last_mut() {
            Arc::make_mut(&mut entry.event).redacts_later = Some(target);
        }
        Ok(event_id)
    }

    /// An event as it would be now, if it is allowed; nothing is added.
    ///
    /// # Errors
    /// As [`Edit::append`].
    pub(super) fn template(&self, draft: EventDraft) -> Result<BuiltEvent> {
        let built = self.build(draft, self.head.depth + 1)?;
        self.authorise(&built)?;
        Ok(built)
    }

    /// Adds the create event of a room that is made, which nothing authorises.
    pub(super) fn push_create(&mut self, built: BuiltEvent, origin: Origin) -> OwnedEventId {
        self.push(built, 1, origin, None)
    }

    fn build(&self, draft: EventDraft, depth: u64) -> Result<BuiltEvent> {
        let version = self.room.version();
        let content = serde_json::value::to_raw_value(&draft.content)
            .map_err(|error| EngineError::bad_json(error.to_string()))?;
        let deciding = self.state()?.deciding(
            &draft.event_type,
            &draft.sender,
            draft.state_key.as_deref(),
            &content,
            version,
        );
        let deciding = deciding.map_err(EngineError::bad_json)?;
        let auth_events = deciding
            .into_iter()
            .map(|event| event.event_id.clone())
            .collect();
        let placement = Placement {
            room_id: Some(self.room.id()),
            version,
            prev_events: self
                .head
                .extremities
                .iter()
                .rev()
                .take(MAX_PREV_EVENTS)
                .map(|(id, _)| id.clone())
                .collect(),
            auth_events,
            depth,
        };
        Ok(build(draft, placement, self.key)?)
    }

    fn authorise(&self, built: &BuiltEvent) -> Result<()> {
        let state = self.state()?;
        let version = self.room.version();
        auth::check(&built.pdu, version, |event_type, state_key| {
            state.event(event_type, state_key)
        })
        .map_err(EngineError::forbidden)?;
        check_voucher(&built.pdu, version, self.key.server_name())
    }

    fn push(
        &mut self,
        built: BuiltEvent,
        depth: u64,
        origin: Origin,
        redaction: Option<NewRedaction>,
    ) -> OwnedEventId {
        let position = Assigned::default();
        let state_event = StateEvent::from_pdu(&built.pdu).map(Arc::new);
        let mut replaced = None;
        let mut membership = None;
        let snapshot = match &state_event {
            None => NewSnapshot::Same(
                self.head
                    .chain
                    .last()
                    .map_or_else(Assigned::default, |(_, at)| at.clone()),
            ),
            Some(event) => {
                replaced = self.apply(event, &position);
                if event.event_type == TimelineEventType::RoomMember {
                    membership = member_row(event);
                }
                self.next_snapshot(&position)
            }
        };
        let fields = built.pdu.fields;
        let relation = Relation::of_content(fields.content.get());
        let event = NewEvent {
            event_id: built.pdu.event_id.clone(),
            event_type: fields.event_type.to_string(),
            state_key: fields.state_key,
            sender: fields.sender,
            origin_server_ts: i64::from(fields.origin_server_ts.get()),
            depth: i64::try_from(depth).unwrap_or(i64::MAX),
            json: built.json,
            origin,
            replaces: replaced.as_ref().map(|entry| entry.position.clone()),
            snapshot,
            membership,
            redaction,
            redacts_later: None,
            redacted_by: None,
            relation,
            after_gap: false,
            settled: None,
            position: position.clone(),
        };
        self.head.depth = depth;
        let left = self.head.extremities.len().saturating_sub(MAX_PREV_EVENTS);
        self.head.extremities.truncate(left);
        self.head
            .extremities
            .push((built.pdu.event_id.clone(), position));
        let replaced = replaced.map(|entry| entry.event);
        self.events.push(NewEntry {
            event: Arc::new(event),
            replaced,
        });
        built.pdu.event_id
    }

    /// Puts a state event into the state, and gives what stood in its place.
    fn apply(&mut self, event: &Arc<StateEvent>, position: &Assigned) -> Option<StateEntry> {
        self.changes_state = true;
        let entry = StateEntry {
            event: event.clone(),
            position: position.clone(),
        };
        let Some(state) = &mut self.head.state else {
            self.head.state = Some(Arc::new(RoomState::new(entry, self.room.version())));
            return None;
        };
        let replaced = state
            .get(&event.event_type.to_string(), &event.state_key)
            .cloned();
        Arc::make_mut(state).apply(entry, self.room.version());
        replaced
    }

    fn next_snapshot(&mut self, position: &Assigned) -> NewSnapshot {
        let place = next_on(&mut self.head.chain, position);
        NewSnapshot::Next {
            parent: place.parent,
            height: place.height,
            merged: place.merged,
        }
    }

    /// Has it noted whether anyone may join or read the room, if that was decided.
    fn note_openness(&mut self) {
        let decides = |entry: &NewEntry| {
            entry.event.state_key.as_deref() == Some("")
                && matches!(
                    entry.event.event_type.as_str(),
                    "m.room.join_rules" | "m.room.history_visibility"
                )
        };
        let Some(state) = self.head.state.as_ref() else {
            return;
        };
        if self.changes_openness || self.events.iter().any(decides) {
            let open = state.join_rule() == JoinRule::Public
                || state.visibility() == HistoryVisibility::WorldReadable;
            self.effects.push(RoomEffect::Open(open));
        }
    }

    /// Whether there is nothing to commit.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.effects.is_empty()
            && self.outliers.is_empty()
            && self.past.is_empty()
            && self.rewrite.is_none()
    }

    /// What is to be committed, what is to be published then, and the head after it.
    pub(super) fn finish(mut self, room: Arc<Room>) -> (RoomWrite, RoomPublication, Head) {
        self.note_openness();
        // Effects alone don't move the room on.
        if !self.events.is_empty() || self.rewrite.is_some() {
            self.head.revision += 1;
        }
        if let Some(entry) = self.events.last() {
            self.head.newest = entry.event.position.clone();
        }
        let rewritten = self.rewrite.as_ref().map(|rewrite| Rewritten {
            rejected: rewrite
                .rejected
                .iter()
                .map(|event| event.position)
                .collect(),
            completion: rewrite.completion.clone(),
        });
        let redactions = self
            .past
            .iter()
            .chain(self.events.iter().map(|entry| &entry.event))
            .filter_map(|event| event.redaction.as_ref());
        let redacted = redactions
            .flat_map(|redaction| [Some(redaction.target), redaction.outlier])
            .flatten()
            .collect();
        let new_room = self.new_room.then(|| NewRoom {
            room_id: room.id().to_owned(),
            version: room.version().id().to_string(),
        });
        let write = RoomWrite {
            room_nid: room.assigned_nid(),
            new_room,
            base_revision: self.base_revision,
            outliers: self.outliers,
            past: self.past,
            events: self
                .events
                .iter()
                .map(|entry| entry.event.clone())
                .collect(),
            extremities: self
                .head
                .extremities
                .iter()
                .map(|(_, at)| at.clone())
                .collect(),
            joined: self.head.state.as_ref().map_or(0, |state| {
                i64::try_from(state.joined_count()).unwrap_or(i64::MAX)
            }),
            effects: self.effects,
            rewrite: self.rewrite,
        };
        let publication = RoomPublication {
            is_new: self.new_room,
            generation: self.head.generation,
            room,
            events: self.events,
            redacted,
            state: self.head.state.clone().filter(|_| self.changes_state),
            members: self.members,
            rewritten,
        };
        (write, publication, self.head)
    }
}

/// Where a new snapshot goes in the tree of snapshots.
struct SnapshotPlace {
    parent: Option<Assigned>,
    height: i64,
    merged: Vec<Assigned>,
}

/// Puts a new snapshot over the newest of a chain.
fn next_on(chain: &mut Vec<(i64, Assigned)>, id: &Assigned) -> SnapshotPlace {
    let height = chain.last().map_or(0, |(height, _)| *height) + 1;
    let below = parent_height(height);
    let mut merged = Vec::new();
    while chain.last().is_some_and(|(height, _)| *height > below) {
        merged.extend(chain.pop().map(|(_, at)| at));
    }
    let parent = chain.last().map(|(_, at)| at.clone());
    chain.push((height, id.clone()));
    SnapshotPlace {
        parent,
        height,
        merged,
    }
}

fn member_row(event: &StateEvent) -> Option<(OwnedUserId, String)> {
    let user_id = OwnedUserId::try_from(event.state_key.as_ref()).ok()?;
    Some((user_id, membership_of(event).to_string()))
}

impl From<BuildError> for EngineError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::TooLarge | BuildError::FieldTooLong(_) => {
                Self::too_large(error.to_string())
            }
            BuildError::NullCharacter(_) => Self::invalid_param(error.to_string()),
            error => Self::bad_json(error.to_string()),
        }
    }
}
