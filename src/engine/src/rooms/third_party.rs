//! Inviting people of whom only an address is known, with the help of an identity server.
//!
//! The identity server says whose the address is, or notes the invitation and gives a token, which is put into the room.
//! Who then proves to it that the address is theirs gets the token signed, and their server has it exchanged for an
//! invitation.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#third-party-invites>

use std::sync::Arc;

use futures::{StreamExt, stream};
use parley_protocol::{
    EventDraft, content,
    third_party::{SignedInvite, ThirdPartyInvite, check_token},
};
use ruma::{
    CanonicalJsonObject, OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId,
    api::error::ErrorKind,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde_json::{json, value::RawValue};

use super::{
    Rooms,
    federation::join::raw,
    membership::{Change, MembershipDetails, check_not_there},
    room::Room,
    state::RoomState,
};
use crate::{
    EngineError, Result,
    remote::{NotedInvite, RemoteError, ThirdPartyAddress},
    sessions::Session,
};

/// Invitations that one request of an identity server may bring.
const MAX_BOUND: usize = 50;
/// How many of them are exchanged at once.
const AT_ONCE: usize = 5;
/// Bytes of an address.
const MAX_ADDRESS_BYTES: usize = 500;

/// An invitation that waited for its address to be somebody's.
#[derive(Clone, Debug)]
pub struct BoundInvite {
    /// Whose the address is now.
    pub user_id: OwnedUserId,
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who invited.
    pub sender: OwnedUserId,
    /// What the identity server signed.
    pub signed: Box<RawValue>,
}

impl Rooms {
    /// Invites whoever has an address.
    ///
    /// `POST /rooms/{roomId}/invite`
    ///
    /// # Errors
    /// `M_THREEPID_DENIED` if this server asks no such identity server, or that refuses; else as [`Rooms::invite`].
    pub async fn invite_address(
        &self,
        session: &Session,
        room_id: &RoomId,
        address: &ThirdPartyAddress,
        details: &MembershipDetails,
    ) -> Result<()> {
        let (room, state) = self.joined_room(session, room_id).await?;
        if !state.power_levels().user_can_invite(&session.user_id) {
            return Err(EngineError::forbidden(
                "you may not invite anybody to this room",
            ));
        }
        self.check_address(address)?;
        let remote = self.outside.remote()?;
        let found = remote.look_up_address(address).await.map_err(denied)?;
        if let Some(user_id) = found {
            return self.invite(session, room_id, &user_id, details).await;
        }
        let shown = self.shown_to_invited(session, &state).await?;
        let noted = remote
            .note_invite(address, room_id, &session.user_id, shown)
            .await
            .map_err(denied)?;
        self.put_invite(session, &room, noted).await
    }

    /// Whether an address may be asked for where it says.
    ///
    /// # Errors
    /// `M_THREEPID_DENIED` if this server doesn't ask that identity server, `M_INVALID_PARAM` if it is no address.
    pub(super) fn check_address(&self, address: &ThirdPartyAddress) -> Result<()> {
        let asks = self
            .outside
            .get()
            .is_some_and(|remote| remote.asks_identity_server(&address.id_server));
        if !asks {
            return Err(EngineError::refused(
                ErrorKind::ThreepidDenied,
                format!(
                    "this server doesn't ask the identity server {}",
                    address.id_server
                ),
            ));
        }
        let is_too_long = address.address.len() > MAX_ADDRESS_BYTES;
        match is_too_long
            || address.address.is_empty()
            || address.address.contains(char::is_control)
        {
            true => Err(EngineError::invalid_param("that is no address")),
            false => Ok(()),
        }
    }

    /// Puts an invitation into the room that an identity server has noted.
    async fn put_invite(
        &self,
        session: &Session,
        room: &Arc<Room>,
        noted: NotedInvite,
    ) -> Result<()> {
        let nonsense = |error: &dyn ToString| {
            EngineError::unknown(format!(
                "the identity server's answer makes no sense: {}",
                error.to_string()
            ))
        };
        check_token(&noted.token).map_err(|error| nonsense(&error))?;
        let invite = ThirdPartyInvite::new(noted.display_name, noted.public_keys)
            .map_err(|error| nonsense(&error))?;
        let content = content::from_serializable(&invite).map_err(|error| nonsense(&error))?;
        let event_type = TimelineEventType::RoomThirdPartyInvite;
        let draft = self.draft(session, event_type, Some(noted.token), content);
        self.edit(room, |edit| {
            edit.append(draft.clone(), Some((session.device_nid, None)))
        })
        .await
        .map(|_| ())
    }

    /// What the invited person is told of the room and of who invites them.
    async fn shown_to_invited(
        &self,
        session: &Session,
        state: &RoomState,
    ) -> Result<serde_json::Map<String, serde_json::Value>> {
        let mut shown = serde_json::Map::new();
        for (field, event_type, key) in [
            ("room_name", "m.room.name", "name"),
            ("room_alias", "m.room.canonical_alias", "alias"),
            ("room_avatar_url", "m.room.avatar", "url"),
            ("room_join_rules", "m.room.join_rules", "join_rule"),
            ("room_type", "m.room.create", "type"),
        ] {
            let content: Option<CanonicalJsonObject> = state
                .get(event_type, "")
                .and_then(|entry| entry.event.content_as());
            let text = content
                .as_ref()
                .and_then(|content| content.get(key)?.as_str());
            if let Some(text) = text {
                shown.insert(field.to_owned(), text.into());
            }
        }
        let profile = self.profile_of(&session.user_id).await?;
        for (field, key) in [
            ("sender_display_name", "displayname"),
            ("sender_avatar_url", "avatar_url"),
        ] {
            if let Some(text) = profile.get(key).and_then(|value| value.as_str()) {
                shown.insert(field.to_owned(), text.into());
            }
        }
        Ok(shown)
    }

    /// Has invitations exchanged that waited for an address that is a user's now.
    ///
    /// `PUT /_matrix/federation/v1/3pid/onbind`
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such user here, `M_TOO_LARGE` if it is too many; what went wrong with the last that
    /// could not be exchanged.
    pub async fn address_bound(&self, user_id: &UserId, invites: Vec<BoundInvite>) -> Result<()> {
        let is_here = self.is_local(user_id) && self.database.user_nid(user_id).await?.is_some();
        if !is_here {
            return Err(EngineError::not_found(format!(
                "there is no user {user_id}"
            )));
        }
        if invites.len() > MAX_BOUND {
            return Err(EngineError::too_large(format!(
                "at most {MAX_BOUND} invitations come at once"
            )));
        }
        let exchanges: Vec<_> = invites
            .iter()
            .map(|invite| self.exchange(user_id, invite))
            .collect();
        let results: Vec<Result<()>> = stream::iter(exchanges)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        results.into_iter().collect()
    }

    /// Has the invitation of a user exchanged that they come with.
    ///
    /// # Errors
    /// As [`Rooms::address_bound`]; nothing happens if they are invited or joined already.
    pub async fn accept_invite(&self, session: &Session, invite: &BoundInvite) -> Result<()> {
        let rows = self.database.memberships_of(session.user_nid).await?;
        let is_there = rows.iter().any(|row| {
            row.room_id == invite.room_id && matches!(row.membership.as_str(), "join" | "invite")
        });
        match is_there {
            true => Ok(()),
            false => self.exchange(&session.user_id, invite).await,
        }
    }

    /// Has one invitation exchanged: here if this server is in the room, else by the server of who invited.
    async fn exchange(&self, user_id: &UserId, invite: &BoundInvite) -> Result<()> {
        let signed = read_signed(&invite.signed)?;
        if invite.user_id != user_id || signed.mxid != user_id {
            return Err(EngineError::forbidden("the invitation is somebody else's"));
        }
        self.check_wants_invitation(user_id, &invite.sender).await?;
        let room = self.registry.get(&invite.room_id).await?;
        if let Some(room) = room
            && self.is_in(&*self.registry.load(&room).await?)
        {
            return self
                .invite_by_token(&room, &invite.sender, &signed, false)
                .await;
        }
        let event = json!({
            "type": "m.room.member",
            "room_id": invite.room_id,
            "sender": invite.sender,
            "state_key": user_id,
            "content": {
                "membership": "invite",
                "third_party_invite": { "display_name": user_id.localpart(), "signed": signed.object() },
            },
        });
        let remote = self.outside.remote()?;
        remote
            .exchange_invite(
                invite.sender.server_name(),
                &invite.room_id,
                raw(&event.to_string())?,
            )
            .await?;
        Ok(())
    }

    /// Exchanges an invitation of one of this server's users for that of a user of `origin`.
    ///
    /// `PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}`
    ///
    /// # Errors
    /// `M_FORBIDDEN` if it isn't signed by a valid key, or the room doesn't allow it; `M_NOT_FOUND` if this server isn't in
    /// the room; `M_INVALID_PARAM` if it is no such invitation.
    pub async fn exchange_for(&self, origin: &ServerName, invite: &BoundInvite) -> Result<()> {
        let (room, _) = self.room_for_server(origin, &invite.room_id).await?;
        let signed = read_signed(&invite.signed)?;
        if invite.user_id.server_name() != origin {
            return Err(EngineError::forbidden("this is no user of your server"));
        }
        if signed.mxid != invite.user_id {
            return Err(EngineError::forbidden("the invitation is somebody else's"));
        }
        if !self.is_local(&invite.sender) {
            return Err(EngineError::invalid_param(format!(
                "{} is no user of this server",
                invite.sender
            )));
        }
        self.invite_by_token(&room, &invite.sender, &signed, true)
            .await
    }

    /// Invites a user by what an identity server has signed. Where another server comes into the room by it
    /// (`must_ask`), the key has to be valid still.
    async fn invite_by_token(
        &self,
        room: &Arc<Room>,
        sender: &UserId,
        signed: &SignedInvite,
        must_ask: bool,
    ) -> Result<()> {
        let state = self.registry.load(room).await?;
        let invite = state
            .get("m.room.third_party_invite", &signed.token)
            .filter(|entry| entry.event.sender == sender)
            .and_then(|entry| ThirdPartyInvite::of_event(&entry.event))
            .ok_or_else(|| EngineError::forbidden("there is no such invitation in that room"))?;
        check_not_there(&state, &signed.mxid)?;
        self.check_keys(&invite, signed, must_ask).await?;
        let draft = self.exchanged(sender, signed, &invite);
        let user_id = &signed.mxid;
        let check = |state: &RoomState| check_not_there(state, user_id);
        if !self.is_local(user_id) {
            return self
                .invite_remote(room, draft, user_id, check)
                .await
                .map(|_| ());
        }
        self.edit(room, |edit| {
            check(edit.state()?)?;
            edit.append(draft.clone(), None)
        })
        .await
        .map(|_| ())
    }

    /// The invitation that one of a user's address is exchanged for.
    fn exchanged(
        &self,
        sender: &UserId,
        signed: &SignedInvite,
        invite: &ThirdPartyInvite,
    ) -> EventDraft {
        let mut third_party = CanonicalJsonObject::new();
        third_party.insert(
            "display_name".to_owned(),
            invite.display_name.clone().into(),
        );
        third_party.insert("signed".to_owned(), signed.object().clone().into());
        let details = MembershipDetails {
            extra: [("third_party_invite".to_owned(), third_party.into())].into(),
            ..MembershipDetails::default()
        };
        let change = Change {
            sender,
            target: &signed.mxid,
            membership: MembershipState::Invite,
            details: &details,
        };
        self.member_draft(&change, CanonicalJsonObject::new())
    }

    /// Whether one of the invitation's keys has signed, and is valid.
    async fn check_keys(
        &self,
        invite: &ThirdPartyInvite,
        signed: &SignedInvite,
        must_ask: bool,
    ) -> Result<()> {
        let not_signed = || EngineError::forbidden("the invitation isn't signed by a valid key");
        let keys = invite.keys_of(signed);
        let mut reason = not_signed();
        for key in keys {
            let Some(url) = &key.key_validity_url else {
                return Ok(());
            };
            let remote = self.outside.remote()?;
            match remote.is_key_valid(url, &key.public_key).await {
                Ok(true) => return Ok(()),
                Ok(false) => reason = not_signed(),
                // That the key has signed is enough for who is in the room with this server already.
                Err(RemoteError::NotAllowed) if !must_ask => return Ok(()),
                Err(error) => {
                    reason = EngineError::forbidden(format!(
                        "whether the invitation's key is valid can't be found out: {error}"
                    ));
                }
            }
        }
        Err(reason)
    }
}

fn read_signed(signed: &RawValue) -> Result<SignedInvite> {
    SignedInvite::read(signed.get()).map_err(|error| EngineError::invalid_param(error.to_string()))
}

/// What an identity server says to a user of its own is nothing that this server's clients could act on.
fn denied(error: RemoteError) -> EngineError {
    let message = match error {
        RemoteError::Refused { message, .. } => format!("the identity server refused: {message}"),
        RemoteError::NotAllowed => "this server doesn't ask that identity server".to_owned(),
        RemoteError::Unreachable(reason) => {
            format!("the identity server can't be reached: {reason}")
        }
        RemoteError::Nonsense(reason) => {
            format!("the identity server's answer makes no sense: {reason}")
        }
    };
    EngineError::refused(ErrorKind::ThreepidDenied, message)
}
