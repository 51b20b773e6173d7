//! What is told of a room that the user is invited to.

use std::sync::Arc;

use parley_protocol::{StateEvent, client_event::stripped_event};
use serde_json::value::RawValue;

use super::{Stretch, Sync, rooms::Candidate};
use crate::{
    Result,
    rooms::{room::Room, state::RoomState},
};

/// What is told of an invitation.
#[derive(Clone, Debug)]
pub struct InvitedRoom {
    /// The room.
    pub room: Arc<Room>,
    /// Enough of its state to show what one is invited to.
    pub state: Vec<Box<RawValue>>,
}

/// The state that an invited user is shown.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>
const SHOWN: &[&str] = &[
    "m.room.create",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.avatar",
    "m.room.name",
    "m.room.topic",
    "m.room.encryption",
];

impl Sync {
    pub(super) async fn tell_invited(
        &self,
        stretch: &Stretch<'_>,
        candidate: &Candidate,
    ) -> Result<Option<InvitedRoom>> {
        let position = candidate.membership.position;
        if position <= stretch.after() && !stretch.full_state {
            return Ok(None);
        }
        let room = &candidate.room;
        let state = self.parts.rooms.state_at(room, position).await?;
        let Some(member) = state.member(stretch.user_id()) else {
            return Ok(None);
        };
        let invitation = &member.entry.event;
        if stretch.ignored.contains(&invitation.sender) {
            return Ok(None);
        }
        Ok(Some(InvitedRoom {
            room: room.clone(),
            state: shown(&state, invitation),
        }))
    }
}

fn shown(state: &RoomState, invitation: &StateEvent) -> Vec<Box<RawValue>> {
    let places = SHOWN
        .iter()
        .filter_map(|event_type| state.get(event_type, ""));
    let inviter = state.member(&invitation.sender).map(|member| &member.entry);
    places
        .chain(inviter)
        .map(|entry| entry.event.as_ref())
        .chain([invitation])
        .map(stripped_event)
        .collect()
}
