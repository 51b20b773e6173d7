//! Events that are to be stored, with the states after them.

use parley_protocol::relation::Relation;
use ruma::{OwnedEventId, OwnedUserId};

use super::Assigned;
use crate::{Result, StorageError};

/// An event that is to be stored.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its type.
    pub event_type: String,
    /// Its state key, if it is a state event.
    pub state_key: Option<String>,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// Milliseconds since the epoch.
    pub origin_server_ts: i64,
    /// Its depth in the room's graph.
    pub depth: i64,
    /// Canonical JSON of the PDU.
    pub json: String,
    /// The device that sent it, with its transaction id if it gave one.
    pub origin: Option<(i64, Option<String>)>,
    /// The state event whose place it takes.
    pub replaces: Option<Assigned>,
    /// The snapshot of the state after it.
    pub snapshot: NewSnapshot,
    /// The membership that it gives a user.
    pub membership: Option<(OwnedUserId, String)>,
    /// The event that it redacts.
    pub redaction: Option<NewRedaction>,
    /// The event that it redacts once that is there.
    pub redacts_later: Option<OwnedEventId>,
    /// The position of the redaction that was there before it, or comes with it. `json` is what that leaves.
    pub redacted_by: Option<Assigned>,
    /// How it relates to another event.
    pub relation: Option<Relation>,
    /// Whether some of what it is built on isn't in the timeline.
    pub after_gap: bool,
    /// What becomes of the room, where that is not just that the event takes its place in the state.
    pub settled: Option<Box<Settled>>,
    /// Its position, once committed.
    pub position: Assigned,
}

impl NewEvent {
    /// Whether more of the room's current state changes with it than its own place.
    pub fn changes_other_places(&self) -> bool {
        let Some(settled) = &self.settled else {
            return false;
        };
        let own = self.position.get();
        // With a whole state that came with a join, the current state is the one after the event.
        let is_current = settled.snapshot.id(own) == self.snapshot.id(own);
        let with_it = || self.snapshot.changes().filter(|_| is_current);
        let changes = settled.snapshot.changes().or_else(with_it);
        changes.is_some_and(|snapshot| {
            let events = snapshot.changes.iter().map(|(_, _, event)| event);
            events
                .map(|event| event.as_ref().map(Assigned::get))
                .any(|event| event != Some(own))
        })
    }
}

/// What becomes of a room's current state by an event that isn't the only end of the room's graph, or that brought a
/// whole state with it.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The current state.
    pub snapshot: NewSnapshot,
    /// Users whose membership changes, to what; `None` if they have none any more.
    pub members: Vec<(OwnedUserId, Option<String>)>,
    /// What the room shows of itself that changes: the type of the state event (with an empty state key), and the event.
    pub shown: Vec<(String, Option<Assigned>)>,
}

/// An event that is stored and stands in no timeline.
#[derive(Clone, Debug)]
pub struct NewOutlier {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its type.
    pub event_type: String,
    /// Its state key, if it is a state event.
    pub state_key: Option<String>,
    /// Its depth in the room's graph.
    pub depth: i64,
    /// How it stands to the room.
    pub standing: Standing,
    /// The state after it, if it is known.
    pub snapshot: Option<NewSnapshot>,
    /// Canonical JSON of the PDU.
    pub json: String,
    /// Whether it is stored already, under `position`, and just its standing and the state after it are new.
    pub is_stored: bool,
    /// Its number, once committed.
    pub position: Assigned,
}

/// How an event stands to its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In the timeline.
    Accepted,
    /// What allows it allows it; no more is known of it.
    Known,
    /// Allowed where it stands in the graph, not by the state at the time it came: not shown.
    SoftFailed,
    /// The rules refuse it.
    Rejected,
}

impl Standing {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Known => "known",
            Self::SoftFailed => "soft_failed",
            Self::Rejected => "rejected",
        }
    }

    pub(crate) fn read(text: &str) -> Result<Self> {
        [
            Self::Accepted,
            Self::Known,
            Self::SoftFailed,
            Self::Rejected,
        ]
        .into_iter()
        .find(|standing| standing.as_str() == text)
        .ok_or_else(|| StorageError::Corrupt(format!("an event's standing is {text:?}")))
    }
}

/// The state after a new event.
#[derive(Clone, Debug)]
pub enum NewSnapshot {
    /// As it was: the event is no state event.
    Same(Assigned),
    /// The event changes it: a new snapshot at the event's own position.
    Next {
        /// The parent; none for the first.
        parent: Option<Assigned>,
        /// How many changes the room has seen, this one included.
        height: i64,
        /// The snapshots between the parent and this one, whose changes go into it.
        merged: Vec<Assigned>,
    },
    /// Any number of changes, as the resolution of a fork gives: a new snapshot with a number of its own.
    Changes(Box<SnapshotChanges>),
}

/// A snapshot with any number of changes.
#[derive(Clone, Debug)]
pub struct SnapshotChanges {
    /// Its number, once committed.
    pub id: Assigned,
    /// The parent; none if the changes are all there is.
    pub parent: Option<Assigned>,
    /// How many changes the room has seen; 0 without parent.
    pub height: i64,
    /// The snapshots between the parent and this one, whose changes go into it.
    pub merged: Vec<Assigned>,
    /// Type and state key of each place that changes, and the event that stands there now; `None` if nothing does.
    pub changes: Vec<(String, String, Option<Assigned>)>,
}

impl NewSnapshot {
    /// The number of the snapshot, where `own` is the position of the event that it is made with.
    pub fn id(&self, own: i64) -> i64 {
        match self {
            Self::Same(id) => id.get(),
            Self::Next { .. } => own,
            Self::Changes(changes) => changes.id.get(),
        }
    }

    pub(super) fn changes(&self) -> Option<&SnapshotChanges> {
        match self {
            Self::Changes(changes) => Some(changes),
            _ => None,
        }
    }
}

/// What a redaction does to its target.
#[derive(Clone, Debug)]
pub struct NewRedaction {
    /// The position of the target.
    pub target: i64,
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its number outside the timeline, if it has one too.
    pub outlier: Option<i64>,
    /// What is left of it, canonical JSON.
    pub json: String,
    /// Where other nodes learn of it, once committed, if the redaction is of the past and so has no place in the stream.
    pub told: Assigned,
}
