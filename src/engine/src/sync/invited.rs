//! What is told of a room that the user is invited to, or has knocked on.

use std::sync::Arc;

use parley_protocol::{StateEvent, client_event::shown_event};
use parley_storage::commit::Assigned;
use serde_json::value::RawValue;

use super::{Stretch, Sync, rooms::Candidate};
use crate::{
    Result,
    ignored::Reception,
    rooms::{room::Room, state::RoomState},
};

/// What is told of an invitation or a knock.
#[derive(Clone, Debug)]
pub struct InvitedRoom {
    /// The room.
    pub room: Arc<Room>,
    /// Enough of its state to show what one is invited to, or waits to be let into.
    pub state: Vec<Box<RawValue>>,
}

/// The state that a user is shown who isn't in the room yet.
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
        if let Some((state, sender)) = self.told_by_others(stretch, candidate).await? {
            let room = candidate.room.clone();
            let is_shown = stretch.ignored.reception(&sender) == Reception::Allow;
            return Ok(is_shown.then_some(InvitedRoom { room, state }));
        }
        let Some((state, invitation)) = self.seen_from_outside(stretch, candidate).await? else {
            return Ok(None);
        };
        let wanted = stretch.ignored.reception(&invitation.sender) == Reception::Allow;
        // What the server itself has to tell can't be declined.
        if !wanted && !self.parts.rooms.is_server(&invitation.sender) {
            return Ok(None);
        }
        let inviter = state.member(&invitation.sender).map(|member| &member.entry);
        let inviter = inviter.map(|entry| entry.event.as_ref());
        Ok(Some(InvitedRoom {
            room: candidate.room.clone(),
            state: shown(&state, inviter.into_iter().chain([invitation.as_ref()])),
        }))
    }

    pub(super) async fn tell_knocked(
        &self,
        stretch: &Stretch<'_>,
        candidate: &Candidate,
    ) -> Result<Option<InvitedRoom>> {
        if let Some((state, _)) = self.told_by_others(stretch, candidate).await? {
            let room = candidate.room.clone();
            return Ok(Some(InvitedRoom { room, state }));
        }
        let Some((state, knock)) = self.seen_from_outside(stretch, candidate).await? else {
            return Ok(None);
        };
        Ok(Some(InvitedRoom {
            room: candidate.room.clone(),
            state: shown(&state, [knock.as_ref()]),
        }))
    }

    /// What other servers told of a room that this one isn't in, and who gave the user their membership; `None` if this
    /// server is in it, or the client knows of it.
    async fn told_by_others(
        &self,
        stretch: &Stretch<'_>,
        candidate: &Candidate,
    ) -> Result<Option<(Vec<Box<RawValue>>, ruma::OwnedUserId)>> {
        if candidate.membership.position <= stretch.after() && !stretch.full_state {
            return Ok(None);
        }
        self.parts
            .rooms
            .shown_from_outside(&candidate.room, stretch.session.user_nid)
            .await
    }

    /// The state when the user was given their membership, and that event; `None` if the client knows of it.
    async fn seen_from_outside(
        &self,
        stretch: &Stretch<'_>,
        candidate: &Candidate,
    ) -> Result<Option<(Arc<RoomState>, Arc<StateEvent>)>> {
        let position = candidate.membership.position;
        let is_known = position <= stretch.after() && !stretch.full_state;
        if is_known || candidate.room.is_outside() {
            return Ok(None);
        }
        let rooms = &self.parts.rooms;
        let Some(state) = rooms.state_if_any_at(&candidate.room, position).await? else {
            // This server has come into the room just now: the user's next answer says what became of their invitation.
            return Ok(None);
        };
        let member = state.member(stretch.user_id());
        let event = member.map(|member| member.entry.event.clone());
        Ok(event.map(|event| (state, event)))
    }
}

/// Where the events stand that somebody is shown of a room who isn't in it, with that of the member who invites them.
pub(crate) fn shown_entries<'a>(
    state: &'a RoomState,
    inviter: Option<&ruma::UserId>,
) -> impl Iterator<Item = Assigned> + use<'a> {
    let inviter = inviter.and_then(|inviter| state.member(inviter));
    SHOWN
        .iter()
        .filter_map(|event_type| state.get(event_type, ""))
        .chain(inviter.map(|member| &member.entry))
        .map(|entry| entry.position.clone())
}

fn shown<'a>(
    state: &'a RoomState,
    members: impl IntoIterator<Item = &'a StateEvent>,
) -> Vec<Box<RawValue>> {
    SHOWN
        .iter()
        .filter_map(|event_type| state.get(event_type, ""))
        .map(|entry| entry.event.as_ref())
        .chain(members)
        .map(shown_event)
        .collect()
}
