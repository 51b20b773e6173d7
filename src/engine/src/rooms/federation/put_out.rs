//! Invitations that are taken back, and knocks that are turned down, in rooms that this server isn't in.

use std::sync::Arc;

use parley_protocol::{Pdu, StateEvent, Unverified};
use ruma::{
    OwnedServerName, OwnedUserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde::Deserialize;

use super::receive::Verdict;
use crate::{
    EngineError, Result,
    rooms::{Rooms, room::Room, state::membership_of},
};

impl Rooms {
    /// Whom an event puts out of a room that this server isn't in: a user who is invited to it, by who has invited them,
    /// or one who has knocked on it, by a user of the server that they knocked by. The room's rules, which would say who
    /// may do that, aren't known here.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it does nothing of that.
    pub(super) async fn put_out(&self, room: &Room, pdu: &Pdu) -> Result<OwnedUserId> {
        let unknown = || EngineError::not_found("this server isn't in that room");
        let user_id = removed(pdu)
            .filter(|user_id| self.is_local(user_id))
            .ok_or_else(unknown)?;
        let user_nid = self.database.user_nid(&user_id).await?;
        let user_nid = user_nid.ok_or_else(unknown)?;
        let invite = self.database.remote_invite(room.nid(), user_nid).await?;
        let invite = invite.ok_or_else(unknown)?;
        let rows = self.database.events_at(vec![invite.event_position]).await?;
        let member = rows
            .into_iter()
            .find_map(|row| StateEvent::parse(row.event_id, &row.json))
            .ok_or_else(unknown)?;
        let sender = &pdu.fields.sender;
        let is_believed = match membership_of(&member) {
            MembershipState::Invite => member.sender == *sender,
            _ => {
                let via: Vec<OwnedServerName> =
                    serde_json::from_str(&invite.via).unwrap_or_default();
                via.iter().any(|server| server == sender.server_name())
            }
        };
        match is_believed {
            true => Ok(user_id),
            false => Err(unknown()),
        }
    }

    /// Takes in what another server tells of a room that this one isn't in.
    ///
    /// # Errors
    /// As [`Rooms::put_out`]; `M_BAD_JSON`, or `M_FORBIDDEN` if its signatures are not right.
    pub(super) async fn receive_outside(&self, room: &Arc<Room>, json: &str) -> Result<Verdict> {
        let event = Unverified::read(json, room.id(), room.version())
            .map_err(|error| EngineError::bad_json(error.to_string()))?;
        let id = event.pdu.event_id.clone();
        if self.database.has_event(&id).await? {
            return Ok(Verdict::Known);
        }
        let incoming = self
            .verify_one(event, room.version())
            .await
            .map_err(|error| EngineError::forbidden(error.to_string()))?;
        let user_id = self.put_out(room, &incoming.pdu).await?;
        self.forget_invite(room, &user_id, &incoming).await?;
        Ok(Verdict::Accepted)
    }
}

/// The user whom somebody else removes, or bans.
fn removed(pdu: &Pdu) -> Option<OwnedUserId> {
    #[derive(Deserialize)]
    struct Content {
        membership: MembershipState,
    }
    let fields = &pdu.fields;
    let content: Content = pdu.content_as().ok()?;
    let is_out = matches!(
        content.membership,
        MembershipState::Leave | MembershipState::Ban
    );
    let user_id = OwnedUserId::try_from(fields.state_key.as_deref()?).ok()?;
    let is_removed =
        fields.event_type == TimelineEventType::RoomMember && is_out && user_id != fields.sender;
    is_removed.then_some(user_id)
}
