//! Guests in rooms: <https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-18>.

use std::{collections::HashSet, sync::Arc};

use parley_protocol::content;
use parley_storage::accounts;
use ruma::{
    CanonicalJsonObject, OwnedUserId, ServerName, UserId,
    events::{StateEventType, TimelineEventType},
};
use serde_json::json;

use super::{Rooms, edit::Edit, room::Room, state::RoomState};
use crate::{
    EngineError, Result,
    accounts::is_guest_name,
    sessions::{AccountKind, Session},
};

/// The event that says whether guests may join.
pub(super) const GUEST_ACCESS: &str = "m.room.guest_access";

/// What `guest_access` has to be for guests to join.
const CAN_JOIN: &str = "can_join";

/// Lets pass who isn't a guest, or may join the room as one.
///
/// # Errors
/// `M_GUEST_ACCESS_FORBIDDEN`.
pub(super) fn check_may_join(session: &Session, state: &RoomState) -> Result<()> {
    if session.kind != AccountKind::Guest || takes_guests(state) {
        return Ok(());
    }
    Err(EngineError::guest_forbidden("this room takes no guests"))
}

fn takes_guests(state: &RoomState) -> bool {
    let access = state.text(GUEST_ACCESS, "guest_access");
    access.as_deref() == Some(CAN_JOIN)
}

/// Whether another event than before, or what is left of it, says whether a room takes guests, and that it doesn't.
pub(super) fn shuts_out(before: Option<&RoomState>, after: Option<&RoomState>) -> bool {
    let access = |state: Option<&RoomState>| {
        let entry = state?.get(GUEST_ACCESS, "")?;
        Some(Arc::as_ptr(&entry.event))
    };
    access(before) != access(after) && after.is_some_and(|state| !takes_guests(state))
}

/// The guests that a room shuts out.
pub(super) struct ShutOut {
    /// Users with a name like a guest's who are none.
    persons: HashSet<OwnedUserId>,
}

impl Rooms {
    /// Whether setting this would shut guests out, and which of the members with a guest's name are none.
    pub(super) async fn shut_out(
        &self,
        state: &RoomState,
        event_type: &StateEventType,
        state_key: &str,
        content: &CanonicalJsonObject,
    ) -> Result<Option<ShutOut>> {
        let access = content.get("guest_access").and_then(|value| value.as_str());
        if *event_type != StateEventType::RoomGuestAccess
            || !state_key.is_empty()
            || access == Some(CAN_JOIN)
        {
            return Ok(None);
        }
        Ok(Some(self.guests_in(state).await?))
    }

    /// The members with a guest's name, and which of them are none.
    async fn guests_in(&self, state: &RoomState) -> Result<ShutOut> {
        let mut persons = HashSet::new();
        for user_id in named_like_guests(state, self.key.server_name()) {
            let account = accounts::find(&self.database, user_id.as_str()).await?;
            if account.is_none_or(|account| account.kind != AccountKind::Guest.as_str()) {
                persons.insert(user_id.clone());
            }
        }
        Ok(ShutOut { persons })
    }

    /// Has the guests of this server leave a room that was told from outside, or by a redaction, to take none any more. What
    /// fails here is no reason against what the room says.
    pub(super) async fn follow_guest_access(&self, room: &Arc<Room>) {
        if let Err(error) = self.put_guests_out(room).await {
            tracing::warn!(%error, room = %room.id(), "guests stay in a room that takes none any more");
        }
    }

    async fn put_guests_out(&self, room: &Arc<Room>) -> Result<()> {
        let state = self.registry.load(room).await?;
        let shut_out = self.guests_in(&state).await?;
        self.edit(room, |edit| match takes_guests(edit.state()?) {
            // It may take them again by now, or still, if an older event was redacted.
            true => Ok(()),
            false => self.remove_guests(edit, &shut_out),
        })
        .await
    }

    /// Has the guests leave who are in the room then, also those who came in a moment ago.
    pub(super) fn remove_guests(&self, edit: &mut Edit<'_>, shut_out: &ShutOut) -> Result<()> {
        let state = edit.state()?.clone();
        let content = content::from_serializable(&json!({ "membership": "leave" }))
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        let guests = named_like_guests(&state, self.key.server_name());
        for guest in guests.filter(|user_id| !shut_out.persons.contains(*user_id)) {
            let key = Some(guest.to_string());
            let draft = self.draft_of(guest, TimelineEventType::RoomMember, key, content.clone());
            edit.append(draft, None)?;
        }
        Ok(())
    }
}

/// The joined members of this server whose names guests could have.
fn named_like_guests<'a>(
    state: &'a RoomState,
    server_name: &'a ServerName,
) -> impl Iterator<Item = &'a OwnedUserId> {
    let named_so = move |user_id: &UserId| {
        is_guest_name(user_id.localpart()) && user_id.server_name() == server_name
    };
    let members = state.joined_members().map(|(user_id, _)| user_id);
    members.filter(move |user_id| named_so(user_id))
}
