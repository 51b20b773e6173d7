//! Which state a client needs to understand a timeline.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ruma::OwnedUserId;

use super::{Sync, rooms::Timeline};
use crate::{
    Result,
    rooms::{
        room::Room,
        state::{RoomState, StateEntry},
        timeline::TimelineEvent,
    },
};

/// The positions of the events of a state, memberships apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Positions {
    /// All that are no memberships.
    pub(super) others: Vec<i64>,
    /// Memberships, with whose they are.
    pub(super) members: Vec<(OwnedUserId, i64)>,
}

/// Which memberships are asked for.
pub(super) type Wanted<'a> = Option<&'a HashSet<OwnedUserId>>;

impl Sync {
    /// The state that a timeline begins with. Put over what a client has, the part of it that is newer than the client
    /// gives the client the whole.
    ///
    /// `state` is the state where the timeline ends; of the memberships, those of `members` are given, or all.
    pub(super) async fn state_before(
        &self,
        room: &Room,
        state: &Arc<RoomState>,
        timeline: &Timeline,
        members: Wanted<'_>,
    ) -> Result<Positions> {
        let Some(first) = timeline.events.first().map(|event| event.position) else {
            return Ok(positions(state, i64::MAX, members));
        };
        if !timeline.is_whole {
            // Events were left out of the timeline, and with them what they took the place of.
            return match self.parts.rooms.state_at(room, first - 1).await {
                Ok(state) => Ok(positions(&state, first, members)),
                // Nothing was there before the create event.
                Err(error) if error.kind().is_some() => Ok(Positions::default()),
                Err(error) => Err(error),
            };
        }
        let mut before = positions(state, first, members);
        for ((event_type, state_key), replaced) in replaced_by(&timeline.events) {
            let Some(position) = replaced else { continue };
            match OwnedUserId::try_from(state_key) {
                Ok(user_id) if event_type == "m.room.member" => {
                    if members.is_none_or(|members| members.contains(&user_id)) {
                        before.members.push((user_id, position));
                    }
                }
                _ => before.others.push(position),
            }
        }
        Ok(before)
    }
}

/// The positions of the state's events that stand before a position.
fn positions(state: &RoomState, before: i64, members: Wanted<'_>) -> Positions {
    let position = |entry: &StateEntry| Some(entry.position.get()).filter(|at| *at < before);
    let others = state.events().filter_map(position).collect();
    let members = match members {
        None => state
            .members()
            .filter_map(|(user_id, member)| Some((user_id.clone(), position(&member.entry)?)))
            .collect(),
        Some(wanted) => wanted
            .iter()
            .filter_map(|user_id| Some((user_id.clone(), position(&state.member(user_id)?.entry)?)))
            .collect(),
    };
    Positions { others, members }
}

/// What the first of the timeline's events in each place of the state took the place of.
fn replaced_by(events: &[Arc<TimelineEvent>]) -> HashMap<(&str, &str), Option<i64>> {
    let mut replaced = HashMap::new();
    for event in events {
        if let Some(state_key) = &event.state_key {
            let key = (event.event_type.as_ref(), state_key.as_ref());
            replaced
                .entry(key)
                .or_insert_with(|| event.replaced.as_ref().map(|replaced| replaced.position));
        }
    }
    replaced
}
