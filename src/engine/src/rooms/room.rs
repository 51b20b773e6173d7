//! A room in memory: its head, which writers build on, and its published view, which readers see.

use std::{
    collections::VecDeque,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parley_protocol::RoomVersion;
use parley_storage::commit::Assigned;
use ruma::{OwnedEventId, OwnedRoomId, RoomId};
use tokio::sync::Mutex;

use super::{
    partial::{Knowledge, Members},
    state::RoomState,
    timeline::TimelineEvent,
};

/// How many of its newest events a room keeps in memory.
const RECENT: usize = 32;

/// A room. There is at most one in memory of each, so that its writers meet at one lock.
#[derive(Debug)]
pub struct Room {
    id: OwnedRoomId,
    version: RoomVersion,
    nid: Assigned,
    /// What the next event is built on, events included that are not committed yet. `None`: to be read from storage.
    pub(super) head: Mutex<Option<Head>>,
    /// Held by who shows what they write to the room's policy server. Others write meanwhile.
    pub(super) asking: Arc<Mutex<()>>,
    /// Counts how often the head was thrown away. A write that was built on a head of another generation is void.
    generation: AtomicU64,
    /// Whether this server knows of the room just that its users are invited to it, or have knocked.
    outside: AtomicBool,
    pub(super) knowledge: Knowledge,
    view: RwLock<Option<View>>,
}

/// The newest point of a room.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// See [`Room::generation`]: a head of another one is void.
    pub(super) generation: u64,
    pub(super) revision: i64,
    pub(super) depth: u64,
    pub(super) extremities: Vec<(OwnedEventId, Assigned)>,
    /// The newest event of the timeline.
    pub(super) newest: Assigned,
    /// The snapshots that the current one is read through, itself included: height and position, the oldest first.
    pub(super) chain: Vec<(i64, Assigned)>,
    /// `None` as long as there is no create event.
    pub(super) state: Option<Arc<RoomState>>,
}

impl Head {
    /// The head of a room that has no events yet.
    pub(super) fn empty(generation: u64) -> Self {
        Self {
            generation,
            revision: 0,
            depth: 0,
            extremities: Vec::new(),
            newest: Assigned::default(),
            chain: Vec::new(),
            state: None,
        }
    }
}

/// What readers see of a room: what is committed, and nothing else.
#[derive(Clone, Debug)]
pub struct View {
    /// The state after the newest event.
    pub state: Arc<RoomState>,
    /// The position of the newest state event: the state held from there on.
    pub state_position: i64,
    /// The position of the newest event.
    pub last_position: i64,
    /// The newest events, oldest first.
    recent: VecDeque<Arc<TimelineEvent>>,
    /// All events after this position are in `recent`.
    recent_after: i64,
}

impl View {
    pub(super) fn new(state: Arc<RoomState>, state_position: i64, last_position: i64) -> Self {
        let recent = VecDeque::new();
        Self {
            state,
            state_position,
            last_position,
            recent,
            recent_after: last_position,
        }
    }
}

/// Events of a room that follow each other, oldest first.
#[derive(Clone, Debug)]
pub struct Recent {
    /// The events.
    pub events: Vec<Arc<TimelineEvent>>,
    /// Whether these are all there are.
    pub complete: bool,
}

impl Room {
    pub(super) fn new(id: OwnedRoomId, version: RoomVersion, nid: Assigned) -> Self {
        Self {
            id,
            version,
            nid,
            head: Mutex::new(None),
            asking: Arc::default(),
            generation: AtomicU64::new(0),
            outside: AtomicBool::new(false),
            knowledge: Knowledge::default(),
            view: RwLock::new(None),
        }
    }

    /// Its id.
    pub fn id(&self) -> &RoomId {
        &self.id
    }

    /// Its version.
    pub fn version(&self) -> &RoomVersion {
        &self.version
    }

    /// Its number; 0 until its creation is committed.
    pub fn nid(&self) -> i64 {
        self.nid.get()
    }

    /// Whether this server has never been in the room, and knows just that its users are invited, or have knocked.
    pub fn is_outside(&self) -> bool {
        self.outside.load(Ordering::Acquire)
    }

    pub(super) fn set_outside(&self, outside: bool) {
        self.outside.store(outside, Ordering::Release);
    }

    pub(super) fn assigned_nid(&self) -> Assigned {
        self.nid.clone()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Makes void what is built on the head but not committed. The head is read anew by its next writer.
    pub(crate) fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The state that is published, with where it comes from; `None` if the room is not loaded.
    pub fn published(&self) -> Option<(Arc<RoomState>, i64)> {
        self.read(|view| (view.state.clone(), view.state_position))
    }

    /// The position of the newest event that is published; `None` if the room is not loaded.
    pub fn last_position(&self) -> Option<i64> {
        self.read(|view| view.last_position)
    }

    /// The newest events in `after < position <= to`, at most `limit`, as far as they are in memory: `None` if older
    /// ones than are there would be needed.
    pub fn recent(&self, after: i64, to: i64, limit: usize) -> Option<Recent> {
        self.read(|view| {
            let within =
                |event: &&Arc<TimelineEvent>| event.position > after && event.position <= to;
            let mut events: Vec<_> = view
                .recent
                .iter()
                .rev()
                .filter(within)
                .take(limit + 1)
                .cloned()
                .collect();
            let reaches = view.recent_after <= after;
            if !reaches && events.len() <= limit {
                return None;
            }
            let complete = events.len() <= limit;
            events.truncate(limit);
            events.reverse();
            Some(Recent { events, complete })
        })?
    }

    fn read<T>(&self, read: impl FnOnce(&View) -> T) -> Option<T> {
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(read)
    }

    /// Sets what readers see, unless they see something newer already.
    pub(super) fn set_view(&self, new: View) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        if view
            .as_ref()
            .is_none_or(|view| view.last_position < new.last_position)
        {
            *view = Some(new);
        }
    }

    /// Keeps events that were read from storage, all there are in `after < position` up to the first in memory.
    pub(crate) fn extend_recent(&self, events: &[Arc<TimelineEvent>], after: i64) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let Some(view) = view.as_mut() else { return };
        let Some(newest) = events.last() else { return };
        if newest.position != view.recent_after || view.recent_after <= after {
            return;
        }
        for event in events.iter().rev() {
            view.recent.push_front(event.clone());
        }
        view.recent_after = after;
    }

    /// Publishes committed events, with the state after them if they change it.
    pub(crate) fn publish(&self, events: &[Arc<TimelineEvent>], state: Option<Arc<RoomState>>) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let Some(newest) = events.last() else { return };
        if view.is_none()
            && let Some(state) = &state
            && let Some(first) = events.first()
            && (first.event_type.as_ref() == "m.room.create" || self.is_outside())
        {
            // A room that is made, or that this server has just come into.
            let mut new = View::new(state.clone(), first.position, first.position - 1);
            new.recent_after = match self.is_outside() {
                true => first.position - 1,
                false => 0,
            };
            *view = Some(new);
        }
        self.set_outside(false);
        let Some(view) = view.as_mut() else { return };
        if newest.position <= view.last_position {
            return;
        }
        let mut has_state = false;
        for event in events
            .iter()
            .filter(|event| event.position > view.last_position)
        {
            view.recent.push_back(event.clone());
            if event.is_state() {
                has_state = true;
                view.state_position = event.position;
            }
        }
        if let Some(state) = state {
            view.state = state;
            // Also what is no state event may change the state, where it brings forks of the room together.
            if !has_state {
                view.state_position = newest.position;
            }
        }
        view.last_position = newest.position;
        while view.recent.len() > RECENT {
            if let Some(event) = view.recent.pop_front() {
                view.recent_after = event.position;
            }
        }
    }

    /// Publishes what became of the state without an event of the timeline: something in it was redacted.
    pub(crate) fn publish_state(&self, state: Arc<RoomState>) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = view.as_mut() {
            view.state = state;
        }
    }

    /// Takes events out of the timeline in memory.
    pub(crate) fn take_out(&self, positions: &[i64]) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = view.as_mut() {
            view.recent
                .retain(|event| !positions.contains(&event.position));
        }
    }

    /// Publishes the state of a room of which nothing is missing any more, since a position of the stream; with `is_apart`, as
    /// this server isn't in it.
    pub(crate) fn publish_complete(&self, state: Arc<RoomState>, since: i64, is_apart: bool) {
        {
            let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(view) = view.as_mut() {
                view.state = state;
                view.state_position = since;
            }
        }
        let servers = match is_apart {
            true => self.told_servers(),
            false => Arc::default(),
        };
        self.set_members(Members::All { since, servers });
    }

    /// Has the room be read anew.
    pub(super) fn forget_view(&self) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Replaces an event in memory by its redacted form.
    pub(crate) fn replace_recent(&self, redacted: &Arc<TimelineEvent>) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let Some(view) = view.as_mut() else { return };
        for event in &mut view.recent {
            if event.position == redacted.position {
                *event = redacted.clone();
            } else if event.has_replaced(redacted.position) {
                *event = Arc::new(event.with_redacted_predecessor(redacted));
            }
        }
    }
}
