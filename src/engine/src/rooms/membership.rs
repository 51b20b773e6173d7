//! Who is in a room: invite, join, leave, kick, ban, unban, forget.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-membership>

use std::sync::Arc;

use parley_protocol::{EventDraft, content};
use parley_storage::{accounts, commit::RoomEffect};
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId,
    api::error::ErrorKind,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde_json::json;

use super::{Rooms, edit::Edit, guests, restricted, room::Room, state::RoomState};
use crate::{
    EngineError, Result,
    ignored::Reception,
    places::{Counted, Place},
    sessions::Session,
};

/// What the member event says beside the membership.
#[derive(Clone, Debug, Default)]
pub struct MembershipDetails {
    /// Why.
    pub reason: Option<String>,
    /// Whether an invitation is to a direct chat.
    pub is_direct: bool,
    /// More that the client wants in the content; may not contain what the server puts there.
    pub extra: CanonicalJsonObject,
}

/// A change that one user makes to a membership, their own or another's.
#[derive(Clone, Debug)]
pub(super) struct Change<'a> {
    pub(super) sender: &'a UserId,
    pub(super) target: &'a UserId,
    pub(super) membership: MembershipState,
    pub(super) details: &'a MembershipDetails,
}

impl Rooms {
    /// Joins a room, by one of the servers `via` if this one isn't in it.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such room, or none of the servers is reached, `M_FORBIDDEN` if it can't be joined without
    /// invitation, `M_GUEST_ACCESS_FORBIDDEN`, `M_USER_LIMIT_EXCEEDED`.
    pub async fn join(
        &self,
        session: &Session,
        room_id: &RoomId,
        via: &[OwnedServerName],
        details: &MembershipDetails,
    ) -> Result<OwnedRoomId> {
        let place = self.place_for_room(session).await;
        if place.is_err() && !self.is_joined_to(session, room_id).await? {
            return place.map(|_| room_id.to_owned());
        }
        if self.needs_others(room_id, &session.user_id).await?
            && self.join_by_others(session, room_id, via, details).await?
        {
            let room = self.room(room_id).await?;
            self.follow_predecessor(session, &room).await;
            return Ok(room_id.to_owned());
        }
        let room = self.room(room_id).await?;
        let change = Change {
            sender: &session.user_id,
            target: &session.user_id,
            membership: MembershipState::Join,
            details,
        };
        let qualifies = self.qualifies(&room, &session.user_id).await?;
        self.change(session, &room, change, |edit, draft| {
            let state = edit.state()?;
            if state.is_joined(&session.user_id) {
                // Joining once more changes nothing; a new name is the profile's business.
                return Ok(own_event(edit, &session.user_id));
            }
            guests::check_may_join(session, state)?;
            let invited = state.membership(&session.user_id) == MembershipState::Invite;
            if qualifies && !invited {
                restricted::vouch(state, self.key.server_name(), draft)?;
            }
            Ok(None)
        })
        .await?;
        self.follow_predecessor(session, &room).await;
        Ok(room.id().to_owned())
    }

    /// Leaves a room, declines an invitation, or takes a knock back.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user is not there, `M_CANNOT_LEAVE_SERVER_NOTICE_ROOM` if the server invites them to hear what
    /// it has to tell.
    pub async fn leave(
        &self,
        session: &Session,
        room_id: &RoomId,
        reason: Option<String>,
    ) -> Result<()> {
        let room = self.known_room(room_id).await?;
        if !room.is_outside() {
            let state = self.registry.load(&room).await?;
            if state.membership(&session.user_id) == MembershipState::Invite {
                self.check_may_decline(session, &room).await?;
            }
        }
        self.leave_in_any_case(session, &room, reason).await
    }

    async fn leave_in_any_case(
        &self,
        session: &Session,
        room: &Arc<Room>,
        reason: Option<String>,
    ) -> Result<()> {
        if room.is_outside() || self.is_invited_from_outside(session, room).await? {
            return self.leave_outside(session, room, reason).await;
        }
        let details = MembershipDetails {
            reason,
            ..MembershipDetails::default()
        };
        let change = Change {
            sender: &session.user_id,
            target: &session.user_id,
            membership: MembershipState::Leave,
            details: &details,
        };
        self.change(session, room, change, |edit, _| {
            match edit
                .state()?
                .member(&session.user_id)
                .map(|member| &member.membership)
            {
                // Leaving twice is harmless, so that a client may repeat it.
                Some(MembershipState::Leave) => Ok(own_event(edit, &session.user_id)),
                Some(MembershipState::Join | MembershipState::Invite | MembershipState::Knock) => {
                    Ok(None)
                }
                _ => Err(EngineError::forbidden("you are not in this room")),
            }
        })
        .await
        .map(|_| ())
    }

    /// Invites a user.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the room doesn't allow it, or the user is in it or banned from it.
    pub async fn invite(
        &self,
        session: &Session,
        room_id: &RoomId,
        user_id: &UserId,
        details: &MembershipDetails,
    ) -> Result<()> {
        let (room, state) = self.joined_room(session, room_id).await?;
        if !state.power_levels().user_can_invite(&session.user_id) {
            // Who may not invite isn't told either whom there is to invite.
            return Err(EngineError::forbidden(
                "you may not invite anybody to this room",
            ));
        }
        self.check_invitable(user_id, &session.user_id).await?;
        self.need_member(&room, user_id).await?;
        check_not_there(&state, user_id)?;
        self.limit_received(session, user_id)?;
        let change = Change {
            sender: &session.user_id,
            target: user_id,
            membership: MembershipState::Invite,
            details,
        };
        if !self.is_local(user_id) {
            self.limit_room(&room)?;
            let draft = self.member_draft(&change, CanonicalJsonObject::new());
            let check = |state: &RoomState| check_not_there(state, user_id);
            return self
                .invite_remote(&room, draft, user_id, check)
                .await
                .map(|_| ());
        }
        self.change(session, &room, change, |edit, _| {
            check_not_there(edit.state()?, user_id)?;
            Ok(None)
        })
        .await
        .map(|_| ())
    }

    /// Removes a user from a room, or withdraws an invitation or knock.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user isn't there or stands too high.
    pub async fn kick(
        &self,
        session: &Session,
        room_id: &RoomId,
        user_id: &UserId,
        reason: Option<String>,
    ) -> Result<()> {
        let details = MembershipDetails {
            reason,
            ..MembershipDetails::default()
        };
        self.remove(
            session,
            room_id,
            user_id,
            MembershipState::Leave,
            &details,
            |membership| match membership {
                MembershipState::Join | MembershipState::Invite | MembershipState::Knock => Ok(()),
                _ => Err(ErrorKind::Forbidden),
            },
        )
        .await
    }

    /// Bans a user.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the room doesn't allow it.
    pub async fn ban(
        &self,
        session: &Session,
        room_id: &RoomId,
        user_id: &UserId,
        reason: Option<String>,
    ) -> Result<()> {
        let details = MembershipDetails {
            reason,
            ..MembershipDetails::default()
        };
        self.remove(
            session,
            room_id,
            user_id,
            MembershipState::Ban,
            &details,
            |_| Ok(()),
        )
        .await
    }

    /// Lifts a ban.
    ///
    /// # Errors
    /// `M_BAD_STATE` if the user isn't banned, `M_FORBIDDEN` if the room doesn't allow it.
    pub async fn unban(
        &self,
        session: &Session,
        room_id: &RoomId,
        user_id: &UserId,
        reason: Option<String>,
    ) -> Result<()> {
        let details = MembershipDetails {
            reason,
            ..MembershipDetails::default()
        };
        self.remove(
            session,
            room_id,
            user_id,
            MembershipState::Leave,
            &details,
            |membership| match membership {
                MembershipState::Ban => Ok(()),
                _ => Err(ErrorKind::BadState),
            },
        )
        .await
    }

    async fn remove(
        &self,
        session: &Session,
        room_id: &RoomId,
        user_id: &UserId,
        membership: MembershipState,
        details: &MembershipDetails,
        fits: impl Fn(&MembershipState) -> Result<(), ErrorKind>,
    ) -> Result<()> {
        let (room, _) = self.joined_room(session, room_id).await?;
        self.need_member(&room, user_id).await?;
        let change = Change {
            sender: &session.user_id,
            target: user_id,
            membership,
            details,
        };
        self.change(session, &room, change, |edit, _| {
            fits(&edit.state()?.membership(user_id)).map_err(|kind| {
                let message = format!("{user_id} has no membership here that this would change");
                EngineError::refused(kind, message)
            })?;
            Ok(None)
        })
        .await
        .map(|_| ())
    }

    /// The rooms that the user is joined to.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn joined_rooms(&self, session: &Session) -> Result<Vec<OwnedRoomId>> {
        let rows = self.database.memberships_of(session.user_nid).await?;
        Ok(rows
            .into_iter()
            .filter(|row| row.membership == "join")
            .map(|row| row.room_id)
            .collect())
    }

    /// Takes a room that the user has left out of what they see.
    ///
    /// # Errors
    /// `M_UNKNOWN` if the user is still in it, `M_NOT_FOUND` if they never were.
    pub async fn forget(&self, session: &Session, room_id: &RoomId) -> Result<()> {
        let room = self.known_room(room_id).await?;
        if !room.is_outside() {
            let state = self.registry.load(&room).await?;
            let member = state.member(&session.user_id);
            let noted = match member {
                Some(member) => Some(member.membership.to_string()),
                // Who was put out by no event is noted as one who has left.
                None => {
                    let noted = self.database.membership(&session.user_id, room.nid());
                    noted.await?.map(|(membership, _)| membership)
                }
            };
            let never = || EngineError::not_found("you have never been in this room");
            let membership = noted.ok_or_else(never)?;
            if !matches!(membership.as_str(), "leave" | "ban") {
                return Err(EngineError::unknown("leave the room before you forget it"));
            }
        }
        let forgotten = self
            .database
            .forget_room(session.user_nid, room.nid())
            .await?;
        if !forgotten && room.is_outside() {
            return Err(EngineError::unknown("leave the room before you forget it"));
        }
        if let Some(feed) = self.feeds.find(&session.user_id) {
            feed.forget_room(room.nid());
        }
        Ok(())
    }

    /// Makes a change of membership. `check` may refuse it, add to it, or say that an event is there already which makes
    /// it so.
    pub(super) async fn change(
        &self,
        session: &Session,
        room: &Arc<Room>,
        change: Change<'_>,
        check: impl Fn(&Edit<'_>, &mut EventDraft) -> Result<Option<OwnedEventId>>,
    ) -> Result<OwnedEventId> {
        let profile = match change.membership {
            MembershipState::Join | MembershipState::Invite | MembershipState::Knock => {
                self.profile_of(change.target).await?
            }
            _ => CanonicalJsonObject::new(),
        };
        let draft = self.member_draft(&change, profile);
        let ends_direct_chat = match change.membership {
            MembershipState::Leave | MembershipState::Ban => self.direct_chat_of(room).await?,
            _ => None,
        };
        // Whoever wants to leave can, and who isn't allowed to do something doesn't use up what the room takes.
        let mut counted =
            change.sender == change.target && change.membership == MembershipState::Leave;
        self.edit(room, |edit| {
            let mut draft = draft.clone();
            if let Some(event_id) = check(edit, &mut draft)? {
                return Ok(event_id);
            }
            if let Some((one, other)) = ends_direct_chat {
                edit.effect(RoomEffect::NoDirectChat { one, other });
            }
            let event_id = edit.append(draft, Some((session.device_nid, None)))?;
            if !counted {
                self.limit_room(room)?;
                counted = true;
            }
            Ok(event_id)
        })
        .await
    }

    pub(super) fn member_draft(
        &self,
        change: &Change<'_>,
        profile: CanonicalJsonObject,
    ) -> EventDraft {
        let mut content = change.details.extra.clone();
        content.extend(profile);
        content.insert(
            "membership".to_owned(),
            change.membership.as_str().to_owned().into(),
        );
        if let Some(reason) = &change.details.reason {
            content.insert("reason".to_owned(), reason.clone().into());
        }
        if change.details.is_direct {
            content.insert("is_direct".to_owned(), true.into());
        }
        self.draft_of(
            change.sender,
            TimelineEventType::RoomMember,
            Some(change.target.to_string()),
            content,
        )
    }

    /// The draft of a member event, for a room that is being made.
    pub(super) fn member_event(
        &self,
        sender: &UserId,
        target: &UserId,
        membership: MembershipState,
        details: &MembershipDetails,
        profile: CanonicalJsonObject,
    ) -> EventDraft {
        self.member_draft(
            &Change {
                sender,
                target,
                membership,
                details,
            },
            profile,
        )
    }

    /// What a user's profile puts into their member events.
    pub(super) async fn profile_of(&self, user_id: &UserId) -> Result<CanonicalJsonObject> {
        let mut profile = CanonicalJsonObject::new();
        let Some(user_nid) = self.database.user_nid(user_id).await? else {
            return Ok(profile);
        };
        for (field, value) in self.database.profile(user_nid).await? {
            if (field == "displayname" || field == "avatar_url")
                && let Ok(value) = serde_json::from_str(&value)
            {
                profile.insert(field, value);
            }
        }
        Ok(profile)
    }

    /// Writes a changed profile into all rooms that the user is joined to. A room that doesn't allow it is left out.
    ///
    /// # Errors
    /// If the database fails; the other rooms are told all the same.
    pub async fn propagate_profile(&self, session: &Session) -> Result<()> {
        let profile = self.profile_of(&session.user_id).await?;
        let mut failed = None;
        for row in self.database.memberships_of(session.user_nid).await? {
            if row.membership != "join" {
                continue;
            }
            let told = self.show_profile(session, &row.room_id, &profile).await;
            failed = failed.or(failure(
                told,
                &row.room_id,
                "a room doesn't take a new profile",
            ));
        }
        failed.map_or(Ok(()), Err)
    }

    async fn show_profile(
        &self,
        session: &Session,
        room_id: &RoomId,
        profile: &CanonicalJsonObject,
    ) -> Result<()> {
        let room = self.room(room_id).await?;
        // It counts, but isn't refused: else the room would keep the old name for good.
        let _ = self.limit_room(&room);
        self.edit(&room, |edit| {
            let Some(member) = edit.state()?.member(&session.user_id) else {
                return Ok(());
            };
            let mut content: CanonicalJsonObject =
                member.entry.event.content_as().unwrap_or_default();
            let before = content.clone();
            content.remove("displayname");
            content.remove("avatar_url");
            content.extend(profile.clone());
            if content == before || member.membership != MembershipState::Join {
                return Ok(());
            }
            // What was said of the join: why, and who let them in, who would have to sign this, too.
            for of_join in ["reason", "is_direct", restricted::AUTHORISED_BY] {
                content.remove(of_join);
            }
            let key = Some(session.user_id.to_string());
            let draft = self.draft(session, TimelineEventType::RoomMember, key, content);
            edit.append(draft, Some((session.device_nid, None)))
                .map(|_| ())
        })
        .await
    }

    /// Has a user leave all rooms and decline all invitations, as when the account is closed.
    ///
    /// # Errors
    /// If the database fails; the other rooms are left all the same.
    pub async fn leave_all(&self, session: &Session) -> Result<()> {
        let mut failed = None;
        for row in self.database.memberships_of(session.user_nid).await? {
            if !matches!(row.membership.as_str(), "join" | "invite" | "knock") {
                continue;
            }
            let left = async {
                let room = self.known_room(&row.room_id).await?;
                self.leave_in_any_case(session, &room, None).await
            };
            failed = failed.or(failure(
                left.await,
                &row.room_id,
                "a user can't leave a room",
            ));
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whether an invitation by `sender` can reach a user: one of this server must exist.
    pub(super) async fn check_invitable(&self, user_id: &UserId, sender: &UserId) -> Result<()> {
        if !self.is_local(user_id) {
            return self.outside.remote().map(|_| ());
        }
        let account = accounts::find(&self.database, user_id.as_str()).await?;
        if account.is_none_or(|account| account.deactivated_at.is_some()) {
            return Err(EngineError::not_found(format!(
                "there is no user {user_id}"
            )));
        }
        self.check_wants_invitation(user_id, sender).await
    }

    /// <https://spec.matrix.org/v1.19/client-server-api/#invite-permission>
    pub(super) async fn check_wants_invitation(
        &self,
        user_id: &UserId,
        sender: &UserId,
    ) -> Result<()> {
        if self.is_server(sender) {
            return Ok(());
        }
        let Some(user_nid) = self.database.user_nid(user_id).await? else {
            return Ok(());
        };
        match self.ignored.by(user_nid).await?.reception(sender) {
            Reception::Block => Err(EngineError::refused(
                ErrorKind::InviteBlocked,
                format!("{user_id} wants no invitations of yours"),
            )),
            Reception::Allow | Reception::Ignore => Ok(()),
        }
    }

    /// A room that this server is in, or of which it knows that its users are invited to it.
    async fn known_room(&self, room_id: &RoomId) -> Result<Arc<Room>> {
        let room = self.registry.find(room_id).await?;
        let room = room.filter(|room| room.nid() != 0);
        room.ok_or_else(|| EngineError::not_found("this server doesn't know that room"))
    }

    /// Whether a user's invitation to a room, or their knock, came about while this server wasn't in it.
    async fn is_invited_from_outside(&self, session: &Session, room: &Arc<Room>) -> Result<bool> {
        let state = self.registry.load(room).await?;
        if self.is_in(&state) {
            return Ok(false);
        }
        let invite = self
            .database
            .remote_invite(room.nid(), session.user_nid)
            .await?;
        Ok(invite.is_some())
    }

    async fn is_joined_to(&self, session: &Session, room_id: &RoomId) -> Result<bool> {
        let Some(room) = self.registry.get(room_id).await? else {
            return Ok(false);
        };
        Ok(self.registry.load(&room).await?.is_joined(&session.user_id))
    }

    /// A place for one more room that a user is in.
    ///
    /// # Errors
    /// `M_USER_LIMIT_EXCEEDED`.
    pub(super) async fn place_for_room(&self, session: &Session) -> Result<Place> {
        let user_nid = session.user_nid;
        let most = self.settings.max_joined;
        let count = || self.database.joined_count(user_nid);
        let place = self.places.take(Counted::RoomsOf(user_nid), most, count);
        place.await?.ok_or_else(|| {
            let message = format!("you are in {most} rooms, as many as this server allows");
            self.account_limits.reached(message)
        })
    }

    pub(super) async fn direct_chat_of(&self, room: &Room) -> Result<Option<(i64, i64)>> {
        Ok(self.database.direct_chat_users(room.nid()).await?)
    }
}

/// What went wrong in a room, if that may be otherwise another time: not if the room, or another server, doesn't allow it.
fn failure(result: Result<()>, room_id: &RoomId, what: &'static str) -> Option<EngineError> {
    let error = result.err()?;
    let is_final = matches!(
        error,
        EngineError::Refused { .. } | EngineError::OtherServer(_)
    );
    if is_final {
        tracing::info!(%error, room = %room_id, "{what}");
        return None;
    }
    tracing::warn!(%error, room = %room_id, "{what}");
    Some(error)
}

/// Only who is neither joined nor banned can be invited.
pub(super) fn check_not_there(state: &RoomState, user_id: &UserId) -> Result<()> {
    match state.membership(user_id) {
        MembershipState::Join => Err(EngineError::forbidden(format!(
            "{user_id} is already in the room"
        ))),
        MembershipState::Ban => Err(EngineError::forbidden(format!(
            "{user_id} is banned from the room"
        ))),
        _ => Ok(()),
    }
}

/// The event that gives a user the membership they have.
fn own_event(edit: &Edit<'_>, user_id: &UserId) -> Option<OwnedEventId> {
    edit.state()
        .ok()?
        .member(user_id)
        .map(|member| member.entry.event.event_id.clone())
}

/// Content of a member event with nothing but the membership and these users' relation, for tests and tools.
pub fn bare_member_content(membership: &MembershipState) -> CanonicalJsonObject {
    content::from_serializable(&json!({ "membership": membership })).unwrap_or_default()
}

/// The users that a list of ids names, each once, in order.
pub(super) fn distinct(users: &[OwnedUserId]) -> Vec<&OwnedUserId> {
    let mut seen = std::collections::HashSet::new();
    users
        .iter()
        .filter(|user| seen.insert(user.as_str()))
        .collect()
}
