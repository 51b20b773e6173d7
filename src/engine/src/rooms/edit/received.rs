//! Putting events of other servers into a room: on its head, beside it, or together with a whole state.

use std::sync::Arc;

use parley_protocol::{Incoming, StateEvent, relation::Relation};
use parley_storage::{
    commit::{
        Assigned, NewEvent, NewOutlier, NewRedaction, NewSnapshot, RoomEffect, Settled,
        SnapshotChanges, Standing,
    },
    summaries::is_shown,
};
use ruma::{
    OwnedEventId, OwnedServerName, OwnedUserId, ServerName, UserId,
    events::room::member::MembershipState,
};

use super::{
    super::{federation::history::Past, state::RoomState},
    Edit, NewEntry, StateEntry, member_row, next_on,
};
use crate::rooms::{partial::Members, state::membership_of};

/// What stands in a place of the state.
#[derive(Clone, Debug)]
pub(in crate::rooms) enum Stands {
    /// The event that is being put into the room.
    Itself,
    /// Another event.
    Other(Assigned),
    /// Nothing any more.
    Nothing,
}

/// A change of one place of the state.
#[derive(Clone, Debug)]
pub(in crate::rooms) struct PlaceChange {
    pub(in crate::rooms) event_type: String,
    pub(in crate::rooms) state_key: String,
    pub(in crate::rooms) stands: Stands,
}

/// A state, as what it changes over a stored one.
#[derive(Clone, Debug)]
pub(in crate::rooms) struct DerivedState {
    /// The snapshots that the stored one is read through, itself last: height and number.
    pub(in crate::rooms) chain: Vec<(i64, Assigned)>,
    /// What is changed over it.
    pub(in crate::rooms) changes: Vec<PlaceChange>,
}

/// A change of one place of the current state; `None` where the event that is put into the room takes it.
#[derive(Clone, Debug)]
pub(in crate::rooms) struct CurrentChange {
    pub(in crate::rooms) event_type: String,
    pub(in crate::rooms) state_key: String,
    pub(in crate::rooms) stands: CurrentStands,
}

/// What stands in a place of the current state.
#[derive(Clone, Debug)]
pub(in crate::rooms) enum CurrentStands {
    Itself,
    Other(StateEntry),
    Nothing,
}

/// Where an event goes that isn't built on the room's head.
#[derive(Clone, Debug)]
pub(in crate::rooms) struct Beside {
    /// The state after it, in the room's graph.
    pub(in crate::rooms) after: DerivedState,
    /// The forward extremities that stay beside it.
    pub(in crate::rooms) extremities: Vec<(OwnedEventId, Assigned)>,
    /// Whether it is one itself.
    pub(in crate::rooms) is_extremity: bool,
    /// Whether some of what it is built on isn't in the timeline.
    pub(in crate::rooms) after_gap: bool,
    /// What changes of the room's current state.
    pub(in crate::rooms) changes: Vec<CurrentChange>,
}

/// An event of another server that the room takes.
#[derive(Clone, Debug)]
pub(in crate::rooms) struct ReceivedEvent {
    pub(in crate::rooms) incoming: Incoming,
    pub(in crate::rooms) redactions: Redactions,
    /// `None`: it is built on exactly the room's head.
    pub(in crate::rooms) beside: Option<Beside>,
}

/// What redactions have to do with an event of another server.
#[derive(Clone, Debug, Default)]
pub(in crate::rooms) struct Redactions {
    /// What it does to the event that it redacts.
    pub(in crate::rooms) redaction: Option<NewRedaction>,
    /// What it redacts once that is there.
    pub(in crate::rooms) redacts_later: Option<OwnedEventId>,
    /// The position of the redaction that was there before it, or comes with it; the event is what that leaves.
    pub(in crate::rooms) redacted_by: Option<Assigned>,
}

/// A whole state that is taken over with a join.
pub(in crate::rooms) struct WholeState {
    /// The state before the join.
    pub(in crate::rooms) state: RoomState,
    /// The join.
    pub(in crate::rooms) join: Incoming,
    /// Where the room's graph ends beside the join.
    pub(in crate::rooms) fork: Fork,
    /// Users whose membership was another before and who are not in the state.
    pub(in crate::rooms) gone: Vec<OwnedUserId>,
    /// Servers in the room, that by which it is joined first, if members are missing from the state.
    pub(in crate::rooms) lacking: Option<Vec<OwnedServerName>>,
}

/// Where a room's graph ends beside a join with which a whole state is taken over.
#[derive(Clone, Debug, Default)]
pub(in crate::rooms) struct Fork {
    /// Events that are in the timeline already.
    pub(in crate::rooms) extremities: Vec<(OwnedEventId, Assigned)>,
    /// What that changes of the current state over that after the join.
    pub(in crate::rooms) changes: Vec<CurrentChange>,
}

/// An event of the past that is read from another server.
#[derive(Clone, Debug)]
pub(in crate::rooms) struct PastEvent {
    pub(in crate::rooms) incoming: Incoming,
    pub(in crate::rooms) redactions: Redactions,
    /// Its position, once committed.
    pub(in crate::rooms) position: Assigned,
}

impl Redactions {
    fn put_into(self, event: &mut NewEvent) {
        event.redaction = self.redaction;
        event.redacts_later = self.redacts_later;
        event.redacted_by = self.redacted_by;
    }
}

impl DerivedState {
    /// The snapshot of this state, to be stored with an event that was stored before: its position may be lower than those of
    /// the snapshots that this one is read through, where the greatest number counts, so it gets a number of its own.
    pub(super) fn into_later_snapshot(mut self, own: &Assigned) -> NewSnapshot {
        match self.changes.is_empty() {
            true => self.into_snapshot(own),
            false => changed_snapshot(&mut self.chain, self.changes, own),
        }
    }

    /// The snapshot of this state, to be stored with a new event.
    fn into_snapshot(mut self, own: &Assigned) -> NewSnapshot {
        match self.changes.as_slice() {
            [] => NewSnapshot::Same(
                self.chain
                    .last()
                    .map_or_else(Assigned::default, |(_, id)| id.clone()),
            ),
            [
                PlaceChange {
                    stands: Stands::Itself,
                    ..
                },
            ] => {
                let place = next_on(&mut self.chain, own);
                NewSnapshot::Next {
                    parent: place.parent,
                    height: place.height,
                    merged: place.merged,
                }
            }
            _ => changed_snapshot(&mut self.chain, self.changes, own),
        }
    }
}

/// A snapshot of several changes over the newest of a chain.
pub(super) fn changed_snapshot(
    chain: &mut Vec<(i64, Assigned)>,
    changes: Vec<PlaceChange>,
    own: &Assigned,
) -> NewSnapshot {
    let id = Assigned::default();
    let place = next_on(chain, &id);
    let changes = changes
        .into_iter()
        .map(|change| {
            let event = match change.stands {
                Stands::Itself => Some(own.clone()),
                Stands::Other(position) => Some(position),
                Stands::Nothing => None,
            };
            (change.event_type, change.state_key, event)
        })
        .collect();
    NewSnapshot::Changes(Box::new(SnapshotChanges {
        id,
        parent: place.parent,
        height: place.height,
        merged: place.merged,
        changes,
    }))
}

impl Edit<'_> {
    /// The current state.
    pub(in crate::rooms) fn current_state(&self) -> Option<DerivedState> {
        let chain = self.head.chain.clone();
        (!chain.is_empty()).then_some(DerivedState {
            chain,
            changes: Vec::new(),
        })
    }

    /// Stores an event that stands in no timeline. Gives its number, once committed.
    pub(in crate::rooms) fn add_outlier(
        &mut self,
        incoming: &Incoming,
        standing: Standing,
        stored: Option<i64>,
        after: Option<DerivedState>,
    ) -> Assigned {
        let position = stored.map_or_else(Assigned::default, Assigned::known);
        let fields = &incoming.pdu.fields;
        self.outliers.push(Arc::new(NewOutlier {
            event_id: incoming.pdu.event_id.clone(),
            event_type: fields.event_type.to_string(),
            state_key: fields.state_key.clone(),
            depth: i64::try_from(u64::from(fields.depth)).unwrap_or(i64::MAX),
            standing,
            snapshot: after.map(|after| match stored {
                Some(_) => after.into_later_snapshot(&position),
                None => after.into_snapshot(&position),
            }),
            json: incoming.json.clone(),
            is_stored: stored.is_some(),
            position: position.clone(),
        }));
        position
    }

    /// Puts an event of another server into the timeline; gives its position. It must be allowed.
    pub(in crate::rooms) fn append_received(&mut self, received: ReceivedEvent) -> Assigned {
        let depth = u64::from(received.incoming.pdu.fields.depth).max(self.head.depth);
        let position = Assigned::default();
        if let Some(redaction) = &received.redactions.redaction {
            self.redact_in_state(redaction);
        }
        match received.beside {
            None => self.append_on_head(received.incoming, received.redactions, position.clone()),
            Some(beside) => {
                let position = position.clone();
                self.append_beside(received.incoming, received.redactions, position, beside);
            }
        }
        self.head.depth = depth;
        position
    }

    /// Puts an event into the timeline that was rejected before, and on which others may be built already. What it means for
    /// the current state is left to who does it.
    pub(in crate::rooms) fn readmit(
        &mut self,
        incoming: Incoming,
        redactions: Redactions,
        after: DerivedState,
    ) {
        let beside = Beside {
            after,
            extremities: self.head.extremities.clone(),
            is_extremity: false,
            after_gap: false,
            changes: Vec::new(),
        };
        self.append_received(ReceivedEvent {
            incoming,
            redactions,
            beside: Some(beside),
        });
    }

    fn redact_in_state(&mut self, redaction: &NewRedaction) {
        if let Some(state) = &mut self.head.state {
            let mut redacted = state.clone();
            let version = self.room.version();
            if Arc::make_mut(&mut redacted).redact(&redaction.event_id, &redaction.json, version) {
                *state = redacted;
                self.changes_state = true;
            }
        }
    }

    fn append_on_head(&mut self, incoming: Incoming, redactions: Redactions, position: Assigned) {
        let state_event = StateEvent::from_pdu(&incoming.pdu).map(Arc::new);
        let mut replaced = None;
        let mut membership = None;
        let snapshot = match &state_event {
            None => NewSnapshot::Same(self.current_snapshot()),
            Some(event) => {
                replaced = self.apply(event, &position);
                membership = member_row(event);
                self.next_snapshot(&position)
            }
        };
        let mut event = new_event(&incoming, snapshot, position.clone());
        redactions.put_into(&mut event);
        event.membership = membership.filter(|_| event.event_type == "m.room.member");
        self.head.extremities = vec![(incoming.pdu.event_id, position)];
        self.push_entry(event, replaced);
    }

    fn append_beside(
        &mut self,
        incoming: Incoming,
        redactions: Redactions,
        position: Assigned,
        beside: Beside,
    ) {
        let after_id = beside.after.chain.last().map(|(_, id)| id.get());
        let is_current = beside.after.changes.is_empty()
            && beside.changes.is_empty()
            && after_id.is_some_and(|id| id != 0 && id == self.current_snapshot().get());
        let snapshot = beside.after.into_snapshot(&position);
        let mut event = new_event(&incoming, snapshot, position.clone());
        redactions.put_into(&mut event);
        event.after_gap = beside.after_gap;
        let mut replaced = None;
        if !is_current {
            let state_event = StateEvent::from_pdu(&incoming.pdu).map(Arc::new);
            let (settled, was) = self.settle(beside.changes, state_event.as_ref(), &position);
            event.settled = Some(Box::new(settled));
            replaced = was;
        }
        self.head.extremities = beside.extremities;
        if beside.is_extremity {
            self.head
                .extremities
                .push((incoming.pdu.event_id, position));
        }
        self.push_entry(event, replaced);
    }

    fn push_entry(&mut self, mut event: NewEvent, replaced: Option<StateEntry>) {
        event.replaces = replaced.as_ref().map(|entry| entry.position.clone());
        self.events.push(NewEntry {
            event: Arc::new(event),
            replaced: replaced.map(|entry| entry.event),
        });
    }

    fn current_snapshot(&self) -> Assigned {
        let newest = self.head.chain.last();
        newest.map_or_else(Assigned::default, |(_, at)| at.clone())
    }

    /// Changes the current state, and gives what that means, with the entry whose place the event itself takes.
    fn settle(
        &mut self,
        changes: Vec<CurrentChange>,
        itself: Option<&Arc<StateEvent>>,
        position: &Assigned,
    ) -> (Settled, Option<StateEntry>) {
        let mut members = Vec::new();
        let mut shown = Vec::new();
        let mut stored = Vec::with_capacity(changes.len());
        let mut replaced = None;
        let version = self.room.version();
        for change in changes {
            let Some(state) = &mut self.head.state else {
                break;
            };
            let old = state.get(&change.event_type, &change.state_key).cloned();
            let entry = match change.stands {
                CurrentStands::Nothing => None,
                CurrentStands::Other(entry) => Some(entry),
                CurrentStands::Itself => {
                    replaced = old;
                    itself.map(|event| StateEntry {
                        event: event.clone(),
                        position: position.clone(),
                    })
                }
            };
            if change.event_type == "m.room.member"
                && let Ok(user_id) = OwnedUserId::try_from(change.state_key.as_str())
            {
                let membership = entry.as_ref().map(|entry| membership_of(&entry.event));
                let membership = membership.map(|membership| membership.to_string());
                let membership = membership.or_else(|| left(&user_id, self.key.server_name()));
                members.push((user_id, membership));
            }
            let at = entry.as_ref().map(|entry| entry.position.clone());
            if is_shown(&change.event_type, Some(&change.state_key)) {
                self.changes_openness = true;
                shown.push((change.event_type.clone(), at.clone()));
            }
            let state = Arc::make_mut(state);
            match entry {
                Some(entry) => state.apply_at(entry, position, version),
                None => state.remove(&change.event_type, &change.state_key, position, version),
            }
            stored.push(PlaceChange {
                event_type: change.event_type,
                state_key: change.state_key,
                stands: at.map_or(Stands::Nothing, Stands::Other),
            });
        }
        let snapshot = match stored.is_empty() {
            true => NewSnapshot::Same(self.current_snapshot()),
            false => {
                self.changes_state = true;
                changed_snapshot(&mut self.head.chain, stored, position)
            }
        };
        let settled = Settled {
            snapshot,
            members,
            shown,
        };
        (settled, replaced)
    }

    /// Takes over a whole state, and the join that came with it.
    pub(in crate::rooms) fn adopt(&mut self, whole: WholeState) {
        let WholeState {
            mut state,
            join,
            fork,
            gone,
            lacking,
        } = whole;
        let position = Assigned::default();
        let mut replaced = None;
        if let Some(event) = StateEvent::from_pdu(&join.pdu) {
            let event_type = event.event_type.to_string();
            replaced = state.get(&event_type, &event.state_key).cloned();
            let entry = StateEntry {
                event: Arc::new(event),
                position: position.clone(),
            };
            state.apply(entry, self.room.version());
        }
        let id = Assigned::default();
        self.note_members(lacking, &position, &id);
        let gone = gone.into_iter().map(|user_id| {
            let membership = left(&user_id, self.key.server_name());
            (user_id, membership)
        });
        let mut settled = whole_settled(&state, &id, gone);
        let mut event = new_event(&join, settled.snapshot.clone(), position.clone());
        self.head.depth = u64::from(join.pdu.fields.depth);
        self.head.extremities = vec![(join.pdu.event_id, position.clone())];
        self.head.chain = vec![(0, id)];
        self.head.state = Some(Arc::new(state));
        self.changes_state = true;
        self.changes_openness = true;
        self.fork_at(fork, &mut settled, &position);
        event.settled = Some(Box::new(settled));
        self.push_entry(event, replaced);
    }

    /// Has the room's graph end at some events beside the one at `position`.
    fn fork_at(&mut self, fork: Fork, settled: &mut Settled, position: &Assigned) {
        self.head.extremities.extend(fork.extremities);
        // None of the changes is by the join itself.
        let (over, _) = self.settle(fork.changes, None, position);
        settled.snapshot = over.snapshot;
        put_over(&mut settled.members, over.members);
        put_over(&mut settled.shown, over.shown);
    }

    /// Notes whether all members are known after a join.
    fn note_members(
        &mut self,
        lacking: Option<Vec<OwnedServerName>>,
        join: &Assigned,
        snapshot: &Assigned,
    ) {
        let servers = lacking
            .as_ref()
            .map(|servers| serde_json::json!(servers).to_string());
        self.members = Some(
            lacking.map_or_else(Members::default, |servers| Members::Some {
                servers: servers.into(),
            }),
        );
        self.effects.push(RoomEffect::Members {
            join: join.clone(),
            snapshot: snapshot.clone(),
            servers,
        });
    }

    /// Puts a stretch of the past before all that is stored.
    pub(in crate::rooms) fn add_past(&mut self, past: Past) {
        let mut chain = past.before.chain;
        let mut changes = past.before.changes;
        let mut standing = past.standing;
        for event in past.events {
            let PastEvent {
                incoming,
                redactions,
                position,
            } = event;
            let fields = &incoming.pdu.fields;
            let mut replaces = None;
            if let Some(state_key) = &fields.state_key {
                let place = (fields.event_type.to_string(), state_key.clone());
                replaces = standing.insert(place, position.clone());
                changes.push(PlaceChange {
                    event_type: fields.event_type.to_string(),
                    state_key: state_key.clone(),
                    stands: Stands::Itself,
                });
            }
            let snapshot = match changes.is_empty() {
                true => NewSnapshot::Same(
                    chain
                        .last()
                        .map_or_else(Assigned::default, |(_, id)| id.clone()),
                ),
                false => {
                    let last = changes.pop();
                    let itself = last
                        .iter()
                        .map(|change| (change.event_type.clone(), change.state_key.clone()));
                    let itself: Vec<_> = itself.collect();
                    changes.retain(|change| {
                        let place = (change.event_type.clone(), change.state_key.clone());
                        !itself.contains(&place)
                    });
                    changes.extend(last);
                    changed_snapshot(&mut chain, std::mem::take(&mut changes), &position)
                }
            };
            let mut new = new_event(&incoming, snapshot.clone(), position);
            if let Some(redaction) = &redactions.redaction {
                self.redact_in_state(redaction);
            }
            redactions.put_into(&mut new);
            new.replaces = replaces;
            // Of the room as it is now, it changes nothing.
            new.settled = Some(Box::new(Settled {
                snapshot: NewSnapshot::Same(snapshot_id(&snapshot)),
                members: Vec::new(),
                shown: Vec::new(),
            }));
            self.past.push(Arc::new(new));
        }
    }

    /// Says that the room is stored, though nothing of its state is.
    pub(in crate::rooms) fn set_stored(&mut self) {
        self.new_room = false;
    }

    /// Takes a user's invitation from outside away.
    pub(in crate::rooms) fn end_invite(&mut self, user_id: &OwnedUserId) {
        let event = self
            .events
            .last()
            .map_or_else(Assigned::default, |entry| entry.event.position.clone());
        self.effects.push(RoomEffect::NoInvite {
            user_id: user_id.clone(),
            event,
        });
    }
}

/// What is noted of somebody who no longer has a membership: of this server's users, that they have left, so that their clients
/// learn of it whenever they ask.
pub(in crate::rooms) fn left(user_id: &UserId, own: &ServerName) -> Option<String> {
    (user_id.server_name() == own).then(|| MembershipState::Leave.to_string())
}

/// Puts what is said of some keys in the place of what was said before.
fn put_over<K: PartialEq, V>(list: &mut Vec<(K, V)>, over: Vec<(K, V)>) {
    for (key, value) in over {
        match list.iter_mut().find(|(other, _)| *other == key) {
            Some((_, before)) => *before = value,
            None => list.push((key, value)),
        }
    }
}

/// A whole state, as it is stored: under `id`.
fn whole_settled(
    state: &RoomState,
    id: &Assigned,
    gone: impl Iterator<Item = (OwnedUserId, Option<String>)>,
) -> Settled {
    let changes = state
        .entries()
        .map(|entry| {
            let event = &entry.event;
            let position = Some(entry.position.clone());
            (
                event.event_type.to_string(),
                event.state_key.to_string(),
                position,
            )
        })
        .collect();
    let members = state.members().map(|(user_id, member)| {
        let membership = member.membership.to_string();
        (user_id.clone(), Some(membership))
    });
    let shown = state.events().filter_map(|entry| {
        let event_type = entry.event.event_type.to_string();
        is_shown(&event_type, Some(&entry.event.state_key))
            .then(|| (event_type, Some(entry.position.clone())))
    });
    Settled {
        members: members.chain(gone).collect(),
        shown: shown.collect(),
        snapshot: NewSnapshot::Changes(Box::new(SnapshotChanges {
            id: id.clone(),
            parent: None,
            height: 0,
            merged: Vec::new(),
            changes,
        })),
    }
}

/// The number of a snapshot with a number of its own, or of the one that stays.
fn snapshot_id(snapshot: &NewSnapshot) -> Assigned {
    match snapshot {
        NewSnapshot::Same(id) => id.clone(),
        NewSnapshot::Changes(changes) => changes.id.clone(),
        NewSnapshot::Next { .. } => Assigned::default(),
    }
}

/// The row of an event of another server.
fn new_event(incoming: &Incoming, snapshot: NewSnapshot, position: Assigned) -> NewEvent {
    let fields = &incoming.pdu.fields;
    NewEvent {
        event_id: incoming.pdu.event_id.clone(),
        event_type: fields.event_type.to_string(),
        state_key: fields.state_key.clone(),
        sender: fields.sender.clone(),
        origin_server_ts: i64::from(fields.origin_server_ts.get()),
        depth: i64::try_from(u64::from(fields.depth)).unwrap_or(i64::MAX),
        json: incoming.json.clone(),
        origin: None,
        replaces: None,
        snapshot,
        membership: None,
        redaction: None,
        redacts_later: None,
        redacted_by: None,
        relation: Relation::of_content(fields.content.get()),
        after_gap: false,
        settled: None,
        position,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_after_an_event_that_was_stored_before_has_a_number_after_that_of_its_parent() {
        let after = DerivedState {
            chain: vec![(0, Assigned::known(50))],
            changes: vec![PlaceChange {
                event_type: "m.room.join_rules".to_owned(),
                state_key: String::new(),
                stands: Stands::Itself,
            }],
        };
        let position = Assigned::known(12);
        let snapshot = after.into_later_snapshot(&position);
        // Its number is given out with the write, as that of a new event is.
        assert_eq!(snapshot.id(position.get()), 0);
        let NewSnapshot::Changes(changes) = snapshot else {
            panic!("{snapshot:?} is read by the event's position");
        };
        assert_eq!(changes.parent.map(|parent| parent.get()), Some(50));
        assert_eq!(changes.changes[0].2.as_ref().map(Assigned::get), Some(12));
    }
}
