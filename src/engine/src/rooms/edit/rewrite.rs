//! Changing what is stored of a room, once more is known of the state that it was judged by.

use std::sync::Arc;

use parley_storage::commit::{
    Assigned, Completion, NewSnapshot, Rejected, Restated, Rewrite, Settled,
};
use ruma::{OwnedEventId, OwnedUserId};

use super::{
    super::state::RoomState,
    Edit,
    received::{DerivedState, PlaceChange, Stands, changed_snapshot},
};

/// The current state of a room of which nothing is missing any more.
#[derive(Clone, Debug)]
pub(in crate::rooms) struct WholeCurrent {
    /// It.
    pub(in crate::rooms) state: Arc<RoomState>,
    /// What it changes over the stored one.
    pub(in crate::rooms) changes: Vec<PlaceChange>,
    /// Users whose membership is another than was noted, with what it is.
    pub(in crate::rooms) members: Vec<(OwnedUserId, Option<String>)>,
    /// What the room shows of itself, with where that stands.
    pub(in crate::rooms) shown: Vec<(String, Option<Assigned>)>,
    /// Where its graph ends beside where it was known to.
    pub(in crate::rooms) ends: Vec<(OwnedEventId, Assigned)>,
    /// Whether it is only that this server isn't in the room any more.
    pub(in crate::rooms) is_apart: bool,
}

/// An event that leaves the timeline.
#[derive(Clone, Debug)]
pub(in crate::rooms) struct Refused {
    pub(in crate::rooms) event_id: OwnedEventId,
    pub(in crate::rooms) position: i64,
    /// The snapshot of the state before it.
    pub(in crate::rooms) before: i64,
    /// The events that are the room's ends in its place: those that it is built on, where nothing else is.
    pub(in crate::rooms) ends: Vec<(OwnedEventId, Assigned)>,
    /// The newest event of the timeline without it.
    pub(in crate::rooms) newest: i64,
}

impl Edit<'_> {
    fn rewrite(&mut self) -> &mut Rewrite {
        let newest = self.head.newest.clone();
        self.rewrite.get_or_insert_with(|| {
            Box::new(Rewrite {
                newest,
                ..Rewrite::default()
            })
        })
    }

    /// Gives a stored event another state after it.
    pub(in crate::rooms) fn restate(&mut self, position: i64, after: DerivedState) {
        let snapshot = after.into_later_snapshot(&Assigned::known(position));
        self.rewrite()
            .restated
            .push(Restated { position, snapshot });
    }

    /// Takes a stored event out of the timeline, as the rules refuse it after all.
    pub(in crate::rooms) fn refuse(&mut self, refused: Refused) {
        let count = self.head.extremities.len();
        self.head
            .extremities
            .retain(|(id, _)| *id != refused.event_id);
        if self.head.extremities.len() < count {
            self.head.extremities.extend(refused.ends);
        }
        if self.head.newest.get() == refused.position {
            self.head.newest = Assigned::known(refused.newest);
        }
        let newest = self.head.newest.clone();
        let rewrite = self.rewrite();
        rewrite.newest = newest;
        rewrite.rejected.push(Rejected {
            position: refused.position,
            snapshot: Assigned::known(refused.before),
        });
    }

    /// Makes a state the current one in which nothing is missing any more.
    pub(in crate::rooms) fn complete(&mut self, whole: WholeCurrent) {
        let snapshot = match whole.changes.is_empty() {
            true => NewSnapshot::Same(
                self.head
                    .chain
                    .last()
                    .map_or_else(Assigned::default, |(_, id)| id.clone()),
            ),
            // None of them is of the event that is put into the room, as there is none.
            false => changed_snapshot(&mut self.head.chain, whole.changes, &Assigned::default()),
        };
        self.head.state = Some(whole.state);
        self.head.extremities.extend(whole.ends);
        self.changes_state = true;
        self.changes_openness = true;
        let settled = Settled {
            snapshot,
            members: whole.members,
            shown: whole.shown,
        };
        self.rewrite().completion = Some(Completion {
            settled,
            is_apart: whole.is_apart,
            position: Assigned::default(),
        });
    }
}

impl PlaceChange {
    /// That a place has another event in it, or none any more.
    pub(in crate::rooms) fn of(event_type: &str, state_key: &str, event: Option<Assigned>) -> Self {
        Self {
            event_type: event_type.to_owned(),
            state_key: state_key.to_owned(),
            stands: event.map_or(Stands::Nothing, Stands::Other),
        }
    }
}
