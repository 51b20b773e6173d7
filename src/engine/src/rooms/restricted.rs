//! Joining rooms that are open to the members of certain other rooms.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms>

use parley_protocol::{EventDraft, Pdu, RoomVersion};
use ruma::{
    OwnedRoomId, OwnedUserId, ServerName, UserId,
    api::error::ErrorKind,
    events::{
        TimelineEventType,
        room::join_rules::{AllowRule, JoinRule},
    },
};
use serde::Deserialize;

use super::{Rooms, room::Room, state::RoomState};
use crate::{EngineError, Result};

/// The key of a join's content that names who lets the user in.
pub(super) const AUTHORISED_BY: &str = "join_authorised_via_users_server";

impl Rooms {
    /// Whether a user may join a restricted room because of another that they are in. What is known of a room that this
    /// server has left is of old, and counts for nothing.
    pub(super) async fn qualifies(&self, room: &Room, user_id: &UserId) -> Result<bool> {
        if !room.version().rules().authorization.restricted_join_rule {
            return Ok(false);
        }
        let state = self.registry.load(room).await?;
        for room_id in allowed_rooms(&state.join_rule()) {
            if let Some(other) = self.registry.get(&room_id).await? {
                let other = self.registry.load(&other).await?;
                if self.is_in(&other) && other.is_joined(user_id) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// The rooms whose members may join.
pub(super) fn allowed_rooms(rule: &JoinRule) -> Vec<OwnedRoomId> {
    let (JoinRule::Restricted(restricted) | JoinRule::KnockRestricted(restricted)) = rule else {
        return Vec::new();
    };
    let room = |rule: &AllowRule| match rule {
        AllowRule::RoomMembership(membership) => Some(membership.room_id.clone()),
        _ => None,
    };
    restricted.allow.iter().filter_map(room).collect()
}

/// Names in a join the member of this server who lets the user in: one who could have invited them.
///
/// # Errors
/// `M_UNABLE_TO_GRANT_JOIN` if this server has no such member in the room.
pub(super) fn vouch(
    state: &RoomState,
    server_name: &ServerName,
    draft: &mut EventDraft,
) -> Result<()> {
    let levels = state.power_levels();
    let voucher = state
        .joined_members()
        .map(|(user_id, _)| user_id)
        .find(|user_id| user_id.server_name() == server_name && levels.user_can_invite(user_id));
    let voucher = voucher.ok_or_else(|| {
        EngineError::refused(
            ErrorKind::UnableToGrantJoin,
            "nobody of this server in the room may invite",
        )
    })?;
    draft
        .content
        .insert(AUTHORISED_BY.to_owned(), voucher.to_string().into());
    Ok(())
}

/// Demands of an event that is built here that, if somebody lets its user in, that is somebody of this server: their server
/// would have to sign it.
///
/// <https://spec.matrix.org/v1.19/rooms/v8/#authorization-rules>
///
/// # Errors
/// `M_FORBIDDEN` if it is somebody of another server.
pub(super) fn check_voucher(
    pdu: &Pdu,
    version: &RoomVersion,
    server_name: &ServerName,
) -> Result<()> {
    if pdu.fields.event_type != TimelineEventType::RoomMember
        || !version.rules().authorization.restricted_join_rule
    {
        return Ok(());
    }
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "join_authorised_via_users_server")]
        voucher: Option<OwnedUserId>,
    }
    let content: Content = pdu
        .content_as()
        .map_err(|error| EngineError::bad_json(error.to_string()))?;
    match content.voucher {
        Some(voucher) if voucher.server_name() != server_name => {
            Err(EngineError::forbidden(format!(
                "{} has not signed that {voucher} lets you in",
                voucher.server_name()
            )))
        }
        _ => Ok(()),
    }
}
