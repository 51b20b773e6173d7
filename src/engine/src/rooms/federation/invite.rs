//! Invitations between servers, and leaving or knocking on rooms that this server isn't in.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use std::sync::Arc;

use parley_protocol::{
    BuiltEvent, EventDraft, Incoming, Placement, RoomVersion, Unverified, build,
    client_event::{shown_event, stripped_event},
};
use parley_storage::{
    accounts,
    commit::{Assigned, RoomEffect, Standing},
    federation::RemoteInviteRow,
};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId,
    RoomVersionId, ServerName, UserId,
    api::error::{ErrorKind, IncompatibleRoomVersionErrorData},
    events::{TimelineEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    acl::check_acl,
    join::{raw, versions},
    receive::{Verdict, check_same},
};
use crate::{
    EngineError, Result,
    limits::Action,
    remote::{OutgoingInvite, RawPdu},
    rooms::{Rooms, membership::MembershipDetails, room::Room, state::RoomState},
    sessions::Session,
};

/// Events that an invited user is shown of a room.
const MAX_SHOWN: usize = 100;
/// Bytes that each may have.
const MAX_SHOWN_BYTES: usize = 65_536;

/// An invitation that another server sent.
#[derive(Clone, Copy, Debug)]
pub struct SentInvite<'a> {
    /// The server.
    pub origin: &'a ServerName,
    /// The room.
    pub room_id: &'a RoomId,
    /// The id of the event.
    pub event_id: &'a EventId,
    /// The room's version; `None` if it came as servers send it that know versions 1 and 2 only.
    pub version: Option<&'a RoomVersionId>,
    /// The invitation.
    pub event: &'a RawPdu,
    /// What the user is shown of the room.
    pub room_state: &'a [RawPdu],
}

/// What makes the membership of a user outside the room.
struct Outsider<'a> {
    user_id: &'a UserId,
    membership: MembershipState,
    event: &'a Incoming,
    room_state: &'a [RawPdu],
    via: Vec<OwnedServerName>,
}

impl Rooms {
    /// Whether a user has their account on this server.
    pub(in crate::rooms) fn is_local(&self, user_id: &UserId) -> bool {
        user_id.server_name() == self.server_name()
    }

    /// Invites a user of another server: their server signs the invitation before the room gets it.
    pub(in crate::rooms) async fn invite_remote(
        &self,
        room: &Arc<Room>,
        draft: EventDraft,
        user_id: &UserId,
        check: impl Fn(&RoomState) -> Result<()>,
    ) -> Result<OwnedEventId> {
        let remote = self.outside.remote()?;
        let mut shown = Vec::new();
        let built = self
            .edit(room, |edit| {
                let state = edit.state()?;
                check(state)?;
                shown = crate::sync::shown_entries(state, Some(&draft.sender)).collect();
                edit.template(draft.clone())
            })
            .await?;
        let built = self.vouched_for(room, built).await?;
        let room_state = self.whole_events(&shown).await?;
        let invite = OutgoingInvite {
            room_id: room.id(),
            event_id: &built.pdu.event_id,
            version: room.version().id(),
            event: raw(&built.json)?,
            room_state,
            via: vec![self.server_name().to_owned()],
        };
        let signed = remote.invite(user_id.server_name(), invite).await?;
        let incoming = self.signed_by_other(room, &built, &signed, user_id).await?;
        match self.take(room, self.server_name(), incoming, false).await? {
            Verdict::Accepted | Verdict::Known => Ok(built.pdu.event_id),
            Verdict::SoftFailed(reason) | Verdict::Rejected(reason) => {
                Err(EngineError::forbidden(reason))
            }
            Verdict::Unanchored(reason) => Err(EngineError::not_found(reason)),
        }
    }

    /// The invitation as the other server signed it; it must be the same, and signed by that server.
    async fn signed_by_other(
        &self,
        room: &Room,
        built: &BuiltEvent,
        signed: &RawPdu,
        user_id: &UserId,
    ) -> Result<Incoming> {
        let server = user_id.server_name();
        let wrong = |reason: &str| EngineError::unknown(format!("{server}: {reason}"));
        let event = Unverified::read(signed.get(), room.id(), room.version())
            .map_err(|error| wrong(&error.to_string()))?;
        if event.pdu.event_id != built.pdu.event_id {
            return Err(wrong("it signed another invitation than it was sent"));
        }
        self.verify_one(event, room.version())
            .await
            .map_err(|error| wrong(&error.to_string()))
    }

    /// PDUs of state events.
    pub(super) async fn whole_events(&self, positions: &[Assigned]) -> Result<Vec<RawPdu>> {
        let positions = positions.iter().map(Assigned::get).collect();
        let rows = self.database.events_at(positions).await?;
        rows.iter().map(|row| raw(&row.json)).collect()
    }

    /// Takes an invitation of one of this server's users; gives it back with this server's signature.
    ///
    /// `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`, and that of v1.
    ///
    /// # Errors
    /// `M_INCOMPATIBLE_ROOM_VERSION`, `M_INVALID_PARAM` if it is none, `M_NOT_FOUND` if there is no such user,
    /// `M_FORBIDDEN` if the room keeps the other server out, `M_INVITE_BLOCKED` if the user wants no invitations of that
    /// sender, `M_LIMIT_EXCEEDED` if they get too many.
    pub async fn take_invite(&self, sent: SentInvite<'_>) -> Result<RawPdu> {
        self.check_may_invite(sent.origin, sent.room_id).await?;
        let version = version_of(&sent)?;
        let mut event = Unverified::read(sent.event.get(), sent.room_id, &version)
            .map_err(|error| EngineError::invalid_param(error.to_string()))?;
        if event.pdu.event_id != sent.event_id {
            return Err(EngineError::invalid_param("the event has another id"));
        }
        let user_id = self.check_invite(&event, sent.origin).await?;
        event
            .sign(&self.key, &version)
            .map_err(|error| EngineError::invalid_param(error.to_string()))?;
        let incoming = self
            .verify_one(event, &version)
            .await
            .map_err(|error| EngineError::invalid_param(error.to_string()))?;
        if version.room_id_is_create_event() {
            self.check_shown(&sent, &version).await?;
        }
        let room = match self.registry.find(sent.room_id).await? {
            Some(room) => room,
            None => self.registry.outside(sent.room_id, version),
        };
        if !self.is_here(&room).await? {
            let outsider = Outsider {
                user_id: &user_id,
                membership: MembershipState::Invite,
                event: &incoming,
                room_state: sent.room_state,
                via: vec![sent.origin.to_owned()],
            };
            self.put_outside(&room, outsider).await?;
        }
        raw(&incoming.json)
    }

    /// Demands that a room doesn't keep a server out, as far as this one knows: of a room that it isn't in, it knows nothing.
    async fn check_may_invite(&self, origin: &ServerName, room_id: &RoomId) -> Result<()> {
        let Some(room) = self.registry.find(room_id).await? else {
            return Ok(());
        };
        match self.state_if_here(&room).await? {
            Some(state) => check_acl(&state, origin),
            None => Ok(()),
        }
    }

    /// Checks what an invited user is shown, in versions since 12: events of the room, its create event among them.
    async fn check_shown(&self, sent: &SentInvite<'_>, version: &RoomVersion) -> Result<()> {
        let wrong = |error: &dyn ToString| {
            EngineError::invalid_param(format!("`invite_room_state`: {}", error.to_string()))
        };
        let events: Vec<Unverified> = sent
            .room_state
            .iter()
            .take(MAX_SHOWN)
            .map(|event| Unverified::read(event.get(), sent.room_id, version))
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(&error))?;
        let is_create =
            |event: &Unverified| event.pdu.fields.event_type == TimelineEventType::RoomCreate;
        if !events.iter().any(is_create) {
            return Err(wrong(&"the create event is missing"));
        }
        for event in self.verify(events, version).await? {
            event.map_err(|error| wrong(&error))?;
        }
        Ok(())
    }

    /// Whether an event is an invitation of a user of this server by one of `origin`; gives the user.
    async fn check_invite(
        &self,
        event: &Unverified,
        origin: &ServerName,
    ) -> Result<ruma::OwnedUserId> {
        #[derive(Deserialize)]
        struct Content {
            membership: MembershipState,
        }
        let fields = &event.pdu.fields;
        let content: Content = event
            .pdu
            .content_as()
            .map_err(|error| EngineError::invalid_param(error.to_string()))?;
        if fields.event_type != TimelineEventType::RoomMember
            || content.membership != MembershipState::Invite
        {
            return Err(EngineError::invalid_param("the event is no invitation"));
        }
        if fields.sender.server_name() != origin {
            return Err(EngineError::invalid_param(
                "the invitation is by a user of another server",
            ));
        }
        let user_id = fields
            .state_key
            .as_deref()
            .and_then(|user_id| ruma::OwnedUserId::try_from(user_id).ok())
            .filter(|user_id| self.is_local(user_id))
            .ok_or_else(|| EngineError::invalid_param("this is no user of this server"))?;
        let account = accounts::find(&self.database, user_id.as_str()).await?;
        if account.is_none_or(|account| account.deactivated_at.is_some()) {
            return Err(EngineError::not_found(format!(
                "there is no user {user_id}"
            )));
        }
        self.check_wants_invitation(&user_id, &fields.sender)
            .await?;
        self.limits
            .check(Action::ReceivedInvite, user_id.as_str())?;
        Ok(user_id)
    }

    /// Notes the membership of a user in a room that this server isn't in.
    async fn put_outside(&self, room: &Arc<Room>, outsider: Outsider<'_>) -> Result<()> {
        let shown = stripped(outsider.room_state);
        let room_state = serde_json::to_string(&shown)
            .map_err(|error| EngineError::bad_json(error.to_string()))?;
        let via = serde_json::to_string(&outsider.via).unwrap_or_else(|_| "[]".to_owned());
        let id = outsider.event.pdu.event_id.clone();
        let stored = self.database.known_events([&id]).await?.remove(&id);
        if let Some(stored) = stored {
            // Sent once more, as the answer to the first was lost.
            return check_same(room, outsider.event, &stored);
        }
        self.edit_outside(room, |edit| {
            let event = edit.add_outlier(outsider.event, Standing::Known, None, None);
            edit.effect(RoomEffect::Invite {
                user_id: outsider.user_id.to_owned(),
                membership: outsider.membership.to_string(),
                event,
                room_state: room_state.clone(),
                via: via.clone(),
            });
        })
        .await
    }

    /// Leaves a room that this server isn't in: declines an invitation, or takes a knock back. Whatever other servers
    /// say, the user is rid of it.
    pub(in crate::rooms) async fn leave_outside(
        &self,
        session: &Session,
        room: &Arc<Room>,
        reason: Option<String>,
    ) -> Result<()> {
        let invite = self
            .database
            .remote_invite(room.nid(), session.user_nid)
            .await?
            .ok_or_else(|| EngineError::forbidden("you are not in this room"))?;
        let details = MembershipDetails {
            reason,
            ..MembershipDetails::default()
        };
        let servers: Vec<OwnedServerName> = serde_json::from_str(&invite.via).unwrap_or_default();
        for server in &servers {
            match self.leave_by(session, room, server, &details).await {
                Ok(leave) => {
                    return self
                        .forget_invite(room, &session.user_id, &leave.into())
                        .await;
                }
                Err(error) => {
                    tracing::info!(room = %room.id(), %server, %error, "a leave can't be sent");
                }
            }
        }
        let leave = self.own_leave(session, room, &invite, &details).await?;
        self.forget_invite(room, &session.user_id, &leave.into())
            .await
    }

    async fn leave_by(
        &self,
        session: &Session,
        room: &Arc<Room>,
        server: &ServerName,
        details: &MembershipDetails,
    ) -> Result<BuiltEvent> {
        let remote = self.outside.remote()?;
        let mut template = remote
            .make_leave(server, room.id(), &session.user_id)
            .await?;
        // What names no version is taken for version 1.
        if template.version == RoomVersionId::V1 {
            template.version = room.version().id().clone();
        }
        let membership = MembershipState::Leave;
        let (leave, _) = self
            .complete(session, room.id(), template, membership, details)
            .await?;
        let event = raw(&leave.json)?;
        remote
            .send_leave(server, room.id(), &leave.pdu.event_id, event)
            .await?;
        Ok(leave)
    }

    /// A leave that no other server has helped with, for this server's users alone to see.
    async fn own_leave(
        &self,
        session: &Session,
        room: &Room,
        invite: &RemoteInviteRow,
        details: &MembershipDetails,
    ) -> Result<BuiltEvent> {
        let rows = self.database.events_at(vec![invite.event_position]).await?;
        let mut content = CanonicalJsonObject::new();
        content.insert("membership".to_owned(), "leave".to_owned().into());
        if let Some(reason) = &details.reason {
            content.insert("reason".to_owned(), reason.clone().into());
        }
        let state_key = Some(session.user_id.to_string());
        let draft = self.draft(session, TimelineEventType::RoomMember, state_key, content);
        let placement = Placement {
            room_id: Some(room.id()),
            version: room.version(),
            prev_events: rows.into_iter().map(|row| row.event_id).collect(),
            auth_events: Vec::new(),
            depth: 1,
        };
        Ok(build(draft, placement, &self.key)?)
    }

    /// Knocks on a room that this server isn't in.
    pub(in crate::rooms) async fn knock_by_others(
        &self,
        session: &Session,
        room_id: &RoomId,
        via: &[OwnedServerName],
        details: &MembershipDetails,
    ) -> Result<OwnedRoomId> {
        let servers = self.servers_for(session, room_id, via).await?;
        let mut refusal = None;
        for server in servers {
            match self.knock_by(session, room_id, &server, details).await {
                Ok(()) => return Ok(room_id.to_owned()),
                Err(error) => {
                    tracing::info!(%room_id, %server, %error, "a room can't be knocked on");
                    refusal.get_or_insert(error);
                }
            }
        }
        Err(refusal.unwrap_or_else(|| {
            EngineError::not_found("this server doesn't know that room, and nobody to ask for it")
        }))
    }

    async fn knock_by(
        &self,
        session: &Session,
        room_id: &RoomId,
        server: &ServerName,
        details: &MembershipDetails,
    ) -> Result<()> {
        let remote = self.outside.remote()?;
        let template = remote
            .make_knock(server, room_id, &session.user_id, &versions())
            .await?;
        let (knock, version) = self
            .complete(session, room_id, template, MembershipState::Knock, details)
            .await?;
        let knock = self.vouched_for_if_here(room_id, knock).await?;
        let event = raw(&knock.json)?;
        let room_state = remote
            .send_knock(server, room_id, &knock.pdu.event_id, event)
            .await?;
        let room = self.registry.to_enter(room_id, version).await?;
        let outsider = Outsider {
            user_id: &session.user_id,
            membership: MembershipState::Knock,
            event: &knock.into(),
            room_state: &room_state,
            via: vec![server.to_owned()],
        };
        self.put_outside(&room, outsider).await
    }

    /// What a user is shown of a room that this server isn't in: stripped state, the user's own member event last; and
    /// who sent that.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn shown_from_outside(
        &self,
        room: &Room,
        user_nid: i64,
    ) -> Result<Option<(Vec<Box<RawValue>>, ruma::OwnedUserId)>> {
        let Some(invite) = self.database.remote_invite(room.nid(), user_nid).await? else {
            return Ok(None);
        };
        let mut shown: Vec<Box<RawValue>> =
            serde_json::from_str(&invite.room_state).unwrap_or_default();
        let rows = self.database.events_at(vec![invite.event_position]).await?;
        let member = rows
            .into_iter()
            .find_map(|row| parley_protocol::StateEvent::parse(row.event_id, &row.json));
        Ok(member.map(|member| {
            shown.push(stripped_event(&member));
            (shown, member.sender)
        }))
    }
}

/// The version of the room that a user is invited to. Where it isn't named, it is 1 or 2, as the create event says.
fn version_of(sent: &SentInvite<'_>) -> Result<RoomVersion> {
    #[derive(Deserialize)]
    struct Create {
        #[serde(rename = "type")]
        event_type: TimelineEventType,
        content: CreateContent,
    }
    #[derive(Deserialize)]
    struct CreateContent {
        room_version: Option<String>,
    }
    let shown = || {
        let shown = sent.room_state.iter().take(MAX_SHOWN);
        shown
            .filter_map(|event| serde_json::from_str::<Create>(event.get()).ok())
            .find(|event| event.event_type == TimelineEventType::RoomCreate)
            .and_then(|create| create.content.room_version)
    };
    let version = match sent.version {
        Some(version) => version.clone(),
        None if shown().as_deref() == Some("2") => RoomVersionId::V2,
        None => RoomVersionId::V1,
    };
    RoomVersion::new(&version).ok_or_else(|| {
        EngineError::refused(
            ErrorKind::IncompatibleRoomVersion(IncompatibleRoomVersionErrorData::new(
                version.clone(),
            )),
            format!("this server doesn't support rooms of version {version}"),
        )
    })
}

/// What may be shown of a room, as clients get it; what has not the shape of a state event is left out.
fn stripped(room_state: &[RawPdu]) -> Vec<Box<RawValue>> {
    room_state
        .iter()
        .take(MAX_SHOWN)
        .filter(|event| event.get().len() <= MAX_SHOWN_BYTES)
        .filter_map(|event| {
            #[derive(Deserialize)]
            struct Fields {
                sender: ruma::OwnedUserId,
                #[serde(rename = "type")]
                event_type: TimelineEventType,
                state_key: Box<str>,
                content: Box<RawValue>,
                /// Of a whole event.
                origin_server_ts: Option<ruma::MilliSecondsSinceUnixEpoch>,
            }
            let fields: Fields = serde_json::from_str(event.get()).ok()?;
            if !fields.content.get().starts_with('{') {
                return None;
            }
            let show = match fields.origin_server_ts {
                Some(_) => shown_event,
                None => stripped_event,
            };
            let zero = ruma::MilliSecondsSinceUnixEpoch(ruma::uint!(0));
            Some(show(&parley_protocol::StateEvent {
                event_id: ruma::event_id!("$shown").to_owned(),
                sender: fields.sender,
                event_type: fields.event_type,
                state_key: fields.state_key,
                content: fields.content,
                origin_server_ts: fields.origin_server_ts.unwrap_or(zero),
            }))
        })
        .collect()
}
