//! Asking to be let in.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#knocking-on-rooms>

use ruma::{OwnedRoomId, OwnedServerName, RoomId, events::room::member::MembershipState};

use super::{
    Rooms,
    membership::{Change, MembershipDetails},
};
use crate::{EngineError, Result, sessions::Session};

impl Rooms {
    /// Knocks on a room, by one of the servers `via` if this one isn't in it. Who has knocked may do so again, with another reason.
    ///
    /// `POST /knock/{roomIdOrAlias}`
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such room, `M_FORBIDDEN` if it isn't one to knock on, or the user is in it already,
    /// invited or banned.
    pub async fn knock(
        &self,
        session: &Session,
        room_id: &RoomId,
        via: &[OwnedServerName],
        reason: Option<String>,
    ) -> Result<OwnedRoomId> {
        let details = MembershipDetails {
            reason,
            ..MembershipDetails::default()
        };
        if self.needs_others(room_id, &session.user_id).await? {
            return self.knock_by_others(session, room_id, via, &details).await;
        }
        let room = self.room(room_id).await?;
        let change = Change {
            sender: &session.user_id,
            target: &session.user_id,
            membership: MembershipState::Knock,
            details: &details,
        };
        self.change(session, &room, change, |edit, _| {
            let refusal = match edit.state()?.membership(&session.user_id) {
                MembershipState::Join => "you are in this room already",
                MembershipState::Invite => "you are invited to this room: join it",
                MembershipState::Ban => "you are banned from this room",
                _ => return Ok(None),
            };
            Err(EngineError::forbidden(refusal))
        })
        .await?;
        Ok(room.id().to_owned())
    }
}
