//! What changes of events that are stored, once more is known of the state that they were judged by.

use super::{Assigned, NewSnapshot, Settled};

/// What changes of a room without a new event.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    /// The newest event of its timeline afterwards.
    pub newest: Assigned,
    /// Events that the rules refuse after all: they leave the timeline.
    pub rejected: Vec<Rejected>,
    /// Events with another state after them than they were stored with.
    pub restated: Vec<Restated>,
    /// Set if nothing of the room's state is missing any more.
    pub completion: Option<Completion>,
}

/// An event that leaves the timeline.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// Its number, which it keeps.
    pub position: i64,
    /// The snapshot of the state before it, which is that after it.
    pub snapshot: Assigned,
}

/// An event, in the timeline or not, with another state after it.
#[derive(Clone, Debug)]
pub struct Restated {
    /// Its number.
    pub position: i64,
    /// The state after it; not one that is made with an event ([`NewSnapshot::Next`]).
    pub snapshot: NewSnapshot,
}

/// What becomes of a room whose state lacked something.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The current state, and the memberships that are told by it.
    pub settled: Settled,
    /// Whether it is only that this server isn't in the room any more.
    pub is_apart: bool,
    /// Its position, once committed.
    pub position: Assigned,
}

impl Rewrite {
    /// What gets a number, in the order of the numbers.
    pub(super) fn numbers(&self) -> impl Iterator<Item = &Assigned> {
        let restated = self
            .restated
            .iter()
            .filter_map(|restated| restated.snapshot.changes().map(|changes| &changes.id));
        let completion = self.completion.iter().flat_map(|completion| {
            let changes = completion.settled.snapshot.changes();
            [
                changes.map(|changes| &changes.id),
                Some(&completion.position),
            ]
        });
        restated.chain(completion.flatten())
    }
}
