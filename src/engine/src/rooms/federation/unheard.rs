//! Leaves that another server had not heard of when it let this one back into a room.
//!
//! A user leaves while other servers can't be reached; another user comes back by such a server, whose state has the first still
//! joined. The room's graph ends at both then, at the join and at the leave, and its current state is what both are resolved to,
//! as it will be for everybody once the leave is told.

use std::{collections::HashMap, sync::Arc};

use parley_protocol::{Pdu, StateEvent};
use parley_storage::{commit::Assigned, events::EventRow, state::Places};
use ruma::{
    OwnedEventId, UserId,
    events::{StateEventType, room::member::MembershipState},
};

use super::resolve::IdState;
use crate::{
    Result,
    rooms::{
        Rooms,
        edit::received::{CurrentChange, CurrentStands, Fork},
        room::Room,
        state::{StateEntry, membership_of},
    },
};

/// A user's member event, by its position, and what stands in its place in the state that another server told.
type Told = HashMap<i64, OwnedEventId>;

impl Rooms {
    /// Where the graph of a room forks that is come back into by `join` with a state before it, whose events are stored.
    /// Where that isn't whole, what is missing may decide, so the leaves alone are taken into the current state.
    pub(super) async fn fork_at_leaves(
        &self,
        room: &Arc<Room>,
        join: &Pdu,
        state: &[(Arc<StateEvent>, i64)],
        is_whole: bool,
    ) -> Result<Fork> {
        if room.is_outside() {
            return Ok(Fork::default());
        }
        let known = self.registry.load(room).await?;
        let told = state
            .iter()
            .filter_map(|(event, _)| {
                let user_id = <&UserId>::try_from(event.state_key.as_ref()).ok()?;
                let member = known.member(user_id).filter(|_| self.is_local(user_id))?;
                let is_left =
                    member.membership == MembershipState::Leave && *user_id != join.fields.sender;
                is_left.then(|| (member.entry.position.get(), event.event_id.clone()))
            })
            .collect();
        let leaves = self.unheard(told).await?;
        if leaves.is_empty() {
            return Ok(Fork::default());
        }
        let changes = match is_whole {
            true => self.changes_by(room, join, state, &leaves).await?,
            false => leaves.iter().filter_map(change_to).collect(),
        };
        Ok(Fork {
            extremities: leaves.iter().map(end_of).collect(),
            changes,
        })
    }

    /// The leaves before the join at a position that the whole state before it, which became known later, doesn't know of.
    pub(super) async fn left_before(
        &self,
        room: &Room,
        join: i64,
        state: &IdState,
    ) -> Result<Vec<EventRow>> {
        let snapshot = self.database.snapshot_at(room.nid(), join - 1).await?;
        let Some(snapshot) = snapshot else {
            return Ok(Vec::new());
        };
        let members = self.database.state(snapshot, Places::Members).await?;
        let told = members
            .into_iter()
            .filter_map(|row| {
                let user_id = <&UserId>::try_from(row.state_key.as_str()).ok()?;
                let is_local = self.is_local(user_id);
                let place = (StateEventType::RoomMember, row.state_key);
                let stands = state.map.get(&place).filter(|_| is_local)?;
                Some((row.position, stands.clone()))
            })
            .collect();
        self.unheard(told).await
    }

    /// The leaves among some member events that were allowed by the very events which others take to stand in their places.
    async fn unheard(&self, told: Told) -> Result<Vec<EventRow>> {
        if told.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self
            .database
            .events_at(told.keys().copied().collect())
            .await?;
        let is_unheard = |row: &EventRow| {
            let pdu = Pdu::parse(row.event_id.clone(), &row.json).ok()?;
            let event = StateEvent::from_pdu(&pdu)?;
            let is_left = membership_of(&event) == MembershipState::Leave
                && *event.state_key == *pdu.fields.sender.as_str();
            let stands = told.get(&row.position)?;
            Some(is_left && pdu.fields.auth_events.contains(stands))
        };
        Ok(rows
            .into_iter()
            .filter(|row| is_unheard(row) == Some(true))
            .collect())
    }

    /// What the states after the leaves change of that after the join.
    async fn changes_by(
        &self,
        room: &Room,
        join: &Pdu,
        state: &[(Arc<StateEvent>, i64)],
        leaves: &[EventRow],
    ) -> Result<Vec<CurrentChange>> {
        let mut joined = IdState::of_events(state);
        // Its position isn't known yet, and not asked for: it's no change.
        joined.put(join, Assigned::default());
        let joined = Arc::new(joined);
        let mut states = vec![Arc::clone(&joined)];
        for leave in leaves {
            states.push(self.id_state(leave.snapshot).await?);
        }
        let resolved = self.resolve(room, states, Some(join)).await?;
        self.current_changes(&joined.map, &resolved, &join.event_id)
            .await
    }
}

/// An event as an end of its room's graph.
pub(super) fn end_of(event: &EventRow) -> (OwnedEventId, Assigned) {
    (event.event_id.clone(), Assigned::known(event.position))
}

fn change_to(row: &EventRow) -> Option<CurrentChange> {
    let event = StateEvent::parse(row.event_id.clone(), &row.json)?;
    Some(CurrentChange {
        event_type: event.event_type.to_string(),
        state_key: event.state_key.to_string(),
        stands: CurrentStands::Other(StateEntry {
            event: Arc::new(event),
            position: Assigned::known(row.position),
        }),
    })
}
