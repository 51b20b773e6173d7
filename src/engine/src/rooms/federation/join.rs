//! Getting this server's users into rooms that it isn't in.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use parley_protocol::{
    BuiltEvent, Incoming, RoomVersion, StateEvent, Unverified, auth,
    template::{Membership, complete},
    versions::offered,
};
use parley_storage::commit::{Assigned, RoomEffect, Standing};
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId,
    RoomVersionId, ServerName, UserId,
    api::error::ErrorKind,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde_json::value::RawValue;

use super::{
    missing::read_all,
    receive::{Known, Verdict},
    recheck::{Claims, claims},
};
use crate::{
    EngineError, Result,
    remote::{EventTemplate, JoinedRoom, RawPdu},
    rooms::{
        ATTEMPTS, Rooms,
        edit::{
            Edit,
            received::{Fork, WholeState},
        },
        membership::MembershipDetails,
        room::{Head, Room},
        room_write,
        state::{Member, RoomState, StateEntry, membership_of},
    },
    sessions::Session,
    stream::committer::NotCommitted,
};

/// Servers that are asked before it is given up.
const MAX_SERVERS: usize = 20;

/// Servers in a room that are remembered until its members are known.
const MAX_TOLD: usize = 10_000;

/// How long what is sent of a room waits while this server is still coming into it.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many wait for one room, those who join it included. Each may hold a whole transaction in memory.
const MAX_WAITING: usize = 16;

/// The rooms of which other servers are being asked for something: once at a time, as after the first the others needn't
/// ask anybody.
#[derive(Debug, Default)]
pub(crate) struct Joining(Mutex<HashMap<OwnedRoomId, Weak<tokio::sync::Mutex<()>>>>);

impl Joining {
    pub(super) fn lock_of(&self, room_id: &RoomId) -> Arc<tokio::sync::Mutex<()>> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = rooms.get(room_id).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        rooms.insert(room_id.to_owned(), Arc::downgrade(&lock));
        lock
    }

    /// Waits until nobody is being asked for a room, if somebody is. Whether that was so.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` if it takes longer than [`PATIENCE`], or more than [`MAX_WAITING`] wait.
    pub(super) async fn over(&self, room_id: &RoomId) -> Result<bool> {
        let lock = {
            let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            rooms.get(room_id).and_then(Weak::upgrade)
        };
        let Some(lock) = lock else {
            return Ok(false);
        };
        if Arc::strong_count(&lock) > MAX_WAITING {
            return Err(EngineError::limit_exceeded(PATIENCE));
        }
        match tokio::time::timeout(PATIENCE, lock.lock()).await {
            Ok(_) => Ok(true),
            Err(_) => Err(EngineError::limit_exceeded(PATIENCE)),
        }
    }
}

/// How joining by other servers ended.
enum Joined {
    /// The user is in the room.
    Done,
    /// This server has come into the room meanwhile, so that it takes no other.
    Locally,
}

/// Which versions this server can be in.
pub(super) fn versions() -> Vec<RoomVersionId> {
    offered()
        .iter()
        .map(|version| version.id().clone())
        .collect()
}

impl Rooms {
    /// Joins a room by other servers, if this one isn't in it. Whether the user is joined; else this server is in the
    /// room, and joining takes no other.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is nobody to ask or nobody is reached, else what those said who were.
    pub(in crate::rooms) async fn join_by_others(
        &self,
        session: &Session,
        room_id: &RoomId,
        via: &[OwnedServerName],
        details: &MembershipDetails,
    ) -> Result<bool> {
        let lock = self.joining.lock_of(room_id);
        let _one_at_a_time = lock.lock().await;
        let joined = self.join_first(session, room_id, via, details).await?;
        Ok(matches!(joined, Joined::Done))
    }

    async fn join_first(
        &self,
        session: &Session,
        room_id: &RoomId,
        via: &[OwnedServerName],
        details: &MembershipDetails,
    ) -> Result<Joined> {
        if !self.needs_others(room_id, &session.user_id).await? {
            return Ok(Joined::Locally);
        }
        let servers = self.servers_for(session, room_id, via).await?;
        let mut refusal = None;
        for server in &servers {
            match self.join_by(session, room_id, server, details).await {
                Ok(()) => return Ok(Joined::Done),
                Err(error) => {
                    tracing::info!(%room_id, %server, %error, "a room can't be joined by a server");
                    // What the first says that speaks with us is what the user is told.
                    refusal.get_or_insert(error);
                }
            }
        }
        // While others were asked, what lets the user in here may have come.
        if refusal.is_some() && !self.needs_others(room_id, &session.user_id).await? {
            return Ok(Joined::Locally);
        }
        Err(refusal.unwrap_or_else(|| {
            EngineError::not_found("this server doesn't know that room, and nobody to ask for it")
        }))
    }

    /// Whether a user can join a room only with another server's help.
    pub(in crate::rooms) async fn needs_others(
        &self,
        room_id: &RoomId,
        user_id: &UserId,
    ) -> Result<bool> {
        let Some(room) = self.registry.get(room_id).await? else {
            return Ok(true);
        };
        let state = self.registry.load(&room).await?;
        if !self.is_in(&state) {
            // Where nobody is left, there is nobody to ask.
            return Ok(!room.servers(&state).is_empty());
        }
        let servers = room.servers(&state);
        let are_others = servers
            .iter()
            .any(|(server, _)| server != self.server_name());
        if room.lacks_members() && state.member(user_id).is_none() {
            // They may be banned.
            return Ok(are_others);
        }
        Ok(are_others && self.cannot_vouch(&room, &state, user_id).await?)
    }

    /// Whether a user may join, but nobody of this server can vouch for that.
    async fn cannot_vouch(&self, room: &Room, state: &RoomState, user_id: &UserId) -> Result<bool> {
        let is_let_in = matches!(
            state.membership(user_id),
            MembershipState::Join | MembershipState::Invite | MembershipState::Ban
        );
        if is_let_in || !self.qualifies(room, user_id).await? {
            return Ok(false);
        }
        let levels = state.power_levels();
        let vouches = state.joined_members().any(|(member, _)| {
            member.server_name() == self.server_name() && levels.user_can_invite(member)
        });
        Ok(!vouches)
    }

    /// The servers to ask, each once: that of an invitation, those that the client names, if it names none, that of the
    /// room's id, and those in the room, if this server is in it or the client names none.
    pub(super) async fn servers_for(
        &self,
        session: &Session,
        room_id: &RoomId,
        via: &[OwnedServerName],
    ) -> Result<Vec<OwnedServerName>> {
        let mut servers = Vec::new();
        if let Some(room) = self.registry.find(room_id).await? {
            if let Some(invite) = self
                .database
                .remote_invite(room.nid(), session.user_nid)
                .await?
            {
                let known: Vec<OwnedServerName> =
                    serde_json::from_str(&invite.via).unwrap_or_default();
                servers.extend(known);
            }
            servers.extend(via.iter().cloned());
            if !room.is_outside() {
                let state = self.registry.load(&room).await?;
                if via.is_empty() || self.is_in(&state) {
                    servers.extend(self.servers_to_ask(&room, &state));
                }
            }
        } else {
            servers.extend(via.iter().cloned());
        }
        if via.is_empty() {
            servers.extend(room_id.server_name().map(ToOwned::to_owned));
        }
        if self.outside.get().is_none() {
            servers.clear();
        }
        let mut seen = HashSet::new();
        servers.retain(|server| server != self.server_name() && seen.insert(server.clone()));
        servers.truncate(MAX_SERVERS);
        Ok(servers)
    }

    async fn join_by(
        &self,
        session: &Session,
        room_id: &RoomId,
        server: &ServerName,
        details: &MembershipDetails,
    ) -> Result<()> {
        let remote = self.outside.remote()?;
        let template = remote
            .make_join(server, room_id, &session.user_id, &versions())
            .await?;
        let (join, version) = self
            .complete(session, room_id, template, MembershipState::Join, details)
            .await?;
        let join = self.vouched_for_if_here(room_id, join).await?;
        let omit_members = self.settings.join_without_members;
        let event = raw(&join.json)?;
        let mut answer = remote
            .send_join(server, room_id, &join.pdu.event_id, event, omit_members)
            .await?;
        answer.members_omitted &= omit_members;
        self.enter(session, room_id, version, server, &join, answer)
            .await
    }

    /// Completes the template that another server gave of a member event of the session's user.
    pub(super) async fn complete(
        &self,
        session: &Session,
        room_id: &RoomId,
        template: EventTemplate,
        membership: MembershipState,
        details: &MembershipDetails,
    ) -> Result<(BuiltEvent, RoomVersion)> {
        let version = RoomVersion::new(&template.version).ok_or_else(|| {
            let version = &template.version;
            EngineError::refused(
                ErrorKind::UnsupportedRoomVersion,
                format!("this server can't be in rooms of version {version}"),
            )
        })?;
        let mut content: CanonicalJsonObject = details.extra.clone();
        if membership != MembershipState::Leave {
            content.extend(self.profile_of(&session.user_id).await?);
        }
        if let Some(reason) = &details.reason {
            content.insert("reason".to_owned(), reason.clone().into());
        }
        let wanted = Membership {
            room_id,
            user_id: &session.user_id,
            membership,
            content,
            at: self.now(),
        };
        let built = complete(template.event.get(), wanted, &version, &self.key)
            .map_err(|error| EngineError::unknown(error.to_string()))?;
        Ok((built, version))
    }

    /// Comes into a room with what another server answered to a join.
    async fn enter(
        &self,
        session: &Session,
        room_id: &RoomId,
        version: RoomVersion,
        server: &ServerName,
        join: &BuiltEvent,
        answer: JoinedRoom,
    ) -> Result<()> {
        let room = self.registry.to_enter(room_id, version).await?;
        let join = self.signed_join(&room, join, answer.event.as_ref()).await?;
        let is_here = self.is_here(&room).await?;
        let goes_on = !is_here && self.goes_on(session, &room, &join).await?;
        if is_here || goes_on {
            // Another server vouched for the user, or nothing has happened that this one doesn't know; the room is here.
            let verdict = self.take_told(&room, server, join).await?;
            if goes_on {
                self.database.wake_partial_room(room.nid()).await?;
                self.completing.wake();
            }
            return match verdict {
                Verdict::SoftFailed(reason) | Verdict::Rejected(reason) => {
                    Err(EngineError::forbidden(reason))
                }
                _ => Ok(()),
            };
        }
        let state = read_all(&room, &answer.state);
        let state_ids: Vec<OwnedEventId> = state
            .iter()
            .map(|event| event.pdu.event_id.clone())
            .collect();
        if !room.is_outside() {
            // The server comes back, and may have to resolve this state with what it knows: by then it has to be stored.
            let events = [answer.auth_chain.as_slice(), &answer.state].concat();
            self.store_outliers(&room, events).await?;
        }
        let mut events = read_all(&room, &answer.auth_chain);
        events.extend(state);
        let checked = self.check_outliers(&room, events).await?;
        checked
            .allow(&join.pdu, room.version())
            .map_err(|reason| nonsense(format!("the join isn't allowed: {reason}")))?;
        let (checked, known) = (checked.new, checked.known);
        // Mostly for want of keys. What is left out stands in the state all the same, and is asked for as members are.
        let is_whole = state_ids.iter().all(|id| known.contains_key(id));
        let lacking = match (answer.members_omitted, is_whole) {
            (true, _) => Some(self.servers_told(server, &answer.servers_in_room)),
            (false, false) => Some(self.servers_told(server, &servers_of(&state_ids, &known))),
            (false, true) => None,
        };
        let claims = match lacking.is_some() {
            true => claims(&join.pdu, &known),
            false => Claims::new(),
        };
        let own = join.pdu.fields.sender.as_str().to_owned();
        let own = claims.get(&("m.room.member".to_owned(), own));
        let own = own.map(|event| event.event_id.clone());
        let own = own.filter(|id| !state_ids.contains(id));
        let state = state_of(state_ids.iter().chain(&own), &known);
        let join = self
            .vouched_on_entry(&room, join, &state, lacking.as_deref())
            .await?;
        let fork = self
            .fork_at_leaves(&room, &join.pdu, &state, lacking.is_none())
            .await?;
        let entering = Entering {
            join,
            checked,
            lacking,
            claims,
            state,
            fork,
        };
        self.write_entry(&room, entering, &session.user_id).await?;
        self.completing.wake();
        Ok(())
    }

    /// Whether a join is built on nothing but what this server knows of a room whose members it was never told: then it goes
    /// on where it was, and so does who asks for them.
    async fn goes_on(&self, session: &Session, room: &Room, join: &Incoming) -> Result<bool> {
        if room.is_outside() || !room.lacks_members() {
            return Ok(false);
        }
        let is_invited = self
            .database
            .remote_invite(room.nid(), session.user_nid)
            .await?
            .is_some();
        let prev = &join.pdu.fields.prev_events;
        let known = self.known_of(room, prev).await?;
        let knows = |id| known.get(id).is_some_and(|event| event.snapshot.is_some());
        Ok(!is_invited && prev.iter().all(knows))
    }

    /// The servers in a room as another server told them, that one first.
    fn servers_told(&self, server: &ServerName, told: &[OwnedServerName]) -> Vec<OwnedServerName> {
        let mut servers = vec![server.to_owned()];
        let mut seen: HashSet<&ServerName> = HashSet::from([server, self.server_name()]);
        let others = told.iter().filter(|told| seen.insert(told));
        servers.extend(others.take(MAX_TOLD).cloned());
        servers
    }

    /// The join with all signatures it needs.
    async fn signed_join(
        &self,
        room: &Room,
        join: &BuiltEvent,
        signed: Option<&RawPdu>,
    ) -> Result<Incoming> {
        let json = signed.map_or(join.json.as_str(), |signed| signed.get());
        let event = Unverified::read(json, room.id(), room.version())
            .map_err(|error| nonsense(error.to_string()))?;
        if event.pdu.event_id != join.pdu.event_id {
            return Err(nonsense("it gave another join than it was sent"));
        }
        self.verify_one(event, room.version())
            .await
            .map_err(|error| nonsense(error.to_string()))
    }

    async fn write_entry(
        &self,
        room: &Arc<Room>,
        entering: Entering,
        user_id: &OwnedUserId,
    ) -> Result<()> {
        let permit = self.committer.reserve().await?;
        let mut guard = room.head.lock().await;
        let head = match room.is_outside() {
            true => Head::empty(room.generation()),
            false => self.current_head(room, &mut guard).await?,
        };
        let before = head.state.clone();
        let mut edit = Edit::new(room, &self.key, head);
        if room.nid() != 0 {
            edit.set_stored();
        }
        let positions: HashMap<OwnedEventId, Assigned> = entering
            .checked
            .iter()
            .map(|(event, standing)| {
                let id = event.pdu.event_id.clone();
                (id, edit.add_outlier(event, *standing, None, None))
            })
            .collect();
        let state = entering.build_state(room, &positions)?;
        // Where members are missing, nobody is known to be gone.
        let before = before.filter(|_| entering.lacking.is_none());
        let gone = before.iter().flat_map(|before| before.members());
        // The state is the one before the join: it may know nothing of who joins. Who of this server had left before has.
        let is_gone = |(user, member): &(&OwnedUserId, &Member)| {
            let has_left = self.is_local(user) && member.membership != MembershipState::Join;
            *user != user_id && state.member(user).is_none() && !has_left
        };
        let gone = gone.filter(is_gone).map(|(user, _)| user.clone()).collect();
        edit.adopt(WholeState {
            state,
            join: entering.join,
            fork: entering.fork,
            gone,
            lacking: entering.lacking,
        });
        edit.end_invite(user_id);
        let (write, publication, head) = edit.finish(room.clone());
        let pending = permit.queue(room_write(write), vec![publication]);
        let result = pending.committed().await;
        if result.is_ok() {
            *guard = Some(head);
        }
        Ok(result?)
    }

    /// Has a user who is invited, or has knocked, be so no more, whatever other servers say.
    pub(super) async fn forget_invite(
        &self,
        room: &Arc<Room>,
        user_id: &UserId,
        leave: &Incoming,
    ) -> Result<()> {
        self.edit_outside(room, |edit| {
            let event = edit.add_outlier(leave, Standing::Known, None, None);
            edit.effect(RoomEffect::NoInvite {
                user_id: user_id.to_owned(),
                event,
            });
        })
        .await
    }

    /// Writes what concerns a room that this server isn't in.
    pub(super) async fn edit_outside(
        &self,
        room: &Arc<Room>,
        build: impl Fn(&mut Edit<'_>),
    ) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let permit = self.committer.reserve().await?;
            let guard = room.head.lock().await;
            let mut head = Head::empty(room.generation());
            if room.nid() != 0 {
                // It may have been in it before.
                let revision = self.database.room_revision(room.nid()).await?;
                head.revision = revision.unwrap_or_default();
            }
            let mut edit = Edit::new(room, &self.key, head);
            if room.nid() != 0 {
                edit.set_stored();
            }
            build(&mut edit);
            let (write, publication, _) = edit.finish(room.clone());
            let pending = permit.queue(room_write(write), vec![publication]);
            let result = pending.committed().await;
            drop(guard);
            match result {
                Err(NotCommitted::Rebuild) => {}
                result => return Ok(result?),
            }
        }
        Err(NotCommitted::Rebuild.into())
    }
}

/// What a join brings.
struct Entering {
    join: Incoming,
    /// The events that are new, each after those that allow it.
    checked: Vec<(Incoming, Standing)>,
    /// The state before the join, with where its events are stored, if they are.
    state: Vec<(Arc<StateEvent>, i64)>,
    /// The servers in the room, if members or other things are missing from the state, and what memberships are believed then.
    lacking: Option<Vec<OwnedServerName>>,
    claims: Claims,
    /// Where the room's graph forks, as the state doesn't know of some leaves.
    fork: Fork,
}

impl Entering {
    /// The state before the join.
    fn build_state(
        &self,
        room: &Room,
        positions: &HashMap<OwnedEventId, Assigned>,
    ) -> Result<RoomState> {
        let version = room.version();
        let mut create = None;
        let mut entries = Vec::with_capacity(self.state.len());
        for (event, stored) in &self.state {
            let position = positions.get(&event.event_id).cloned();
            let entry = StateEntry {
                event: event.clone(),
                position: position.unwrap_or_else(|| Assigned::known(*stored)),
            };
            match event.event_type {
                TimelineEventType::RoomCreate => create = Some(entry),
                _ => entries.push(entry),
            }
        }
        let create = create.ok_or_else(|| nonsense("the state has no create event"))?;
        check_create(&create.event, version)?;
        let mut state = RoomState::new(create, version);
        for entry in entries {
            state.apply(entry, version);
        }
        auth::check(&self.join.pdu, version, |event_type, state_key| {
            let place = (event_type.to_string(), state_key.to_owned());
            let claimed = || self.claims.get(&place);
            state.event(event_type, state_key).or_else(claimed)
        })
        .map_err(|reason| nonsense(format!("the state doesn't allow the join: {reason}")))?;
        Ok(state)
    }
}

/// The events of a state as far as they are known and not rejected, with where they are stored.
fn state_of<'a>(
    ids: impl Iterator<Item = &'a OwnedEventId>,
    known: &Known,
) -> Vec<(Arc<StateEvent>, i64)> {
    ids.filter_map(|id| known.get(id))
        .filter(|event| event.standing != Standing::Rejected)
        .filter_map(|event| {
            let state_event = StateEvent::parse(event.event_id.clone(), &event.json)?;
            Some((Arc::new(state_event), event.position))
        })
        .collect()
}

/// Whether a room is of the version that the other server named.
fn check_create(create: &StateEvent, version: &RoomVersion) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Content {
        #[serde(default = "first")]
        room_version: String,
    }
    fn first() -> String {
        "1".to_owned()
    }
    let content: Option<Content> = create.content_as();
    match content.is_some_and(|content| content.room_version == version.id().as_str()) {
        true => Ok(()),
        false => Err(nonsense("the room is of another version than it was said")),
    }
}

/// The servers of the users who are joined in a state.
fn servers_of(state: &[OwnedEventId], known: &Known) -> Vec<OwnedServerName> {
    let events = state.iter().filter_map(|id| known.get(id));
    let members = events
        .filter_map(|event| StateEvent::parse(event.event_id.clone(), &event.json))
        .filter(is_join);
    let users = members.filter_map(|event| OwnedUserId::try_from(event.state_key.as_ref()).ok());
    users
        .map(|user_id| user_id.server_name().to_owned())
        .collect()
}

pub(in crate::rooms) fn is_join(event: &StateEvent) -> bool {
    event.event_type == TimelineEventType::RoomMember
        && membership_of(event) == MembershipState::Join
}

/// What another server said is of no use.
fn nonsense(message: impl Into<std::borrow::Cow<'static, str>>) -> EngineError {
    EngineError::unknown(message)
}

/// An event in the form in which it is sent.
pub(in crate::rooms) fn raw(json: &str) -> Result<RawPdu> {
    RawValue::from_string(json.to_owned()).map_err(|error| EngineError::Internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use ruma::room_id;

    use super::*;

    #[tokio::test]
    async fn so_many_wait_for_a_room_that_is_being_joined_and_others_are_refused() {
        let (joining, room_id) = (Joining::default(), room_id!("!a:a.test"));
        assert!(!joining.over(room_id).await.unwrap());
        let lock = joining.lock_of(room_id);
        let joins = lock.lock().await;
        let mut waiting: Vec<_> = (1..MAX_WAITING)
            .map(|_| Box::pin(joining.over(room_id)))
            .collect();
        for waits in &mut waiting {
            assert!(waits.now_or_never().is_none());
        }
        assert!(joining.over(room_id).await.is_err());
        drop(joins);
        for waits in waiting {
            assert!(waits.await.unwrap());
        }
    }
}
