//! What other servers ask: joining, leaving and knocking on rooms that this server is in, and what it knows of them.

use std::{
    collections::{BinaryHeap, HashMap, HashSet},
    sync::Arc,
};

use parley_protocol::{Incoming, Unverified, template};
use parley_storage::{commit::Standing, federation::KnownEvent};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedServerName, RoomId, RoomVersionId, ServerName,
    UserId,
    api::error::{ErrorKind, IncompatibleRoomVersionErrorData},
    events::{
        StateEventType, TimelineEventType,
        room::{join_rules::JoinRule, member::MembershipState},
    },
};
use serde::Deserialize;

use super::{
    join::raw,
    receive::Verdict,
    resolve::{IdState, pdu_of},
};
use crate::{
    EngineError, Result,
    remote::{EventTemplate, JoinedRoom, RawPdu, StateEvents, StateIds},
    rooms::{
        Rooms,
        restricted::{allowed_rooms, vouch},
        room::Room,
        state::RoomState,
    },
    sync::Summary,
};

/// Events of history that one request may ask for.
const MAX_HISTORY: usize = 100;
/// Events of a gap that one request may ask for.
const MAX_GAP: usize = 50;
/// Events that a request may name as those to begin or to end at. An event is built on 20 at most.
const MAX_NAMED: usize = 50;

/// A gap that another server has in a room.
#[derive(Clone, Debug)]
pub struct Gap {
    /// The newest events that it knows.
    pub earliest: Vec<OwnedEventId>,
    /// The events whose predecessors it wants.
    pub latest: Vec<OwnedEventId>,
    /// How many at most.
    pub limit: usize,
    /// Of what depth at least.
    pub min_depth: u64,
}

/// A member event that another server sent, with what is said of it.
#[derive(Clone, Copy, Debug)]
pub struct SentMember<'a> {
    /// The server.
    pub origin: &'a ServerName,
    /// The room.
    pub room_id: &'a RoomId,
    /// The id that it gives.
    pub event_id: &'a EventId,
    /// The event.
    pub event: &'a RawPdu,
}

impl Rooms {
    /// The template of a join, a leave or a knock of a user of `origin`.
    ///
    /// `GET /_matrix/federation/v1/make_join/{roomId}/{userId}` and its like.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if this server isn't in the room, `M_FORBIDDEN` if the room doesn't allow it,
    /// `M_INCOMPATIBLE_ROOM_VERSION`, `M_UNABLE_TO_AUTHORISE_JOIN`, `M_UNABLE_TO_GRANT_JOIN`.
    pub async fn make_membership(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user_id: &UserId,
        membership: MembershipState,
        versions: Option<&[RoomVersionId]>,
    ) -> Result<EventTemplate> {
        let (room, state) = self.room_for_server(origin, room_id).await?;
        check_origin(origin, user_id)?;
        check_may_let_in(&room, &membership)?;
        check_may_let_out(&room, &state, user_id)?;
        let version = room.version().id();
        if versions.is_some_and(|versions| !versions.contains(version)) {
            return Err(EngineError::refused(
                ErrorKind::IncompatibleRoomVersion(IncompatibleRoomVersionErrorData::new(
                    version.clone(),
                )),
                format!("your server doesn't support rooms of version {version}"),
            ));
        }
        let mut content = CanonicalJsonObject::new();
        content.insert("membership".to_owned(), membership.to_string().into());
        let state_key = Some(user_id.to_string());
        let mut draft = self.draft_of(user_id, TimelineEventType::RoomMember, state_key, content);
        if membership == MembershipState::Join && self.must_vouch(&room, &state, user_id).await? {
            vouch(&state, self.server_name(), &mut draft)?;
        }
        let built = self
            .edit(&room, |edit| edit.template(draft.clone()))
            .await?;
        let template = template::of_event(&built)
            .ok_or_else(|| EngineError::Internal("an event has no template".to_owned()))?;
        Ok(EventTemplate {
            version: version.clone(),
            event: raw(&template)?,
        })
    }

    /// Whether a user of another server may join because of the other rooms that they are in.
    async fn must_vouch(&self, room: &Room, state: &RoomState, user_id: &UserId) -> Result<bool> {
        let is_restricted = matches!(
            state.join_rule(),
            JoinRule::Restricted(_) | JoinRule::KnockRestricted(_)
        );
        let is_let_in = matches!(
            state.membership(user_id),
            MembershipState::Join | MembershipState::Invite | MembershipState::Ban
        );
        if !is_restricted || is_let_in || !room.version().rules().authorization.restricted_join_rule
        {
            return Ok(false);
        }
        if self.qualifies(room, user_id).await? {
            return Ok(true);
        }
        for other in allowed_rooms(&state.join_rule()) {
            let is_known = match self.registry.get(&other).await? {
                Some(other) => self.is_in(&*self.registry.load(&other).await?),
                None => false,
            };
            if !is_known {
                return Err(EngineError::refused(
                    ErrorKind::UnableToAuthorizeJoin,
                    "this server can't tell whether the user may join",
                ));
            }
        }
        Err(EngineError::forbidden(
            "the user is in none of the rooms whose members may join",
        ))
    }

    /// Takes a join, a leave or a knock of a user of `origin`; gives the event as it is stored.
    ///
    /// # Errors
    /// `M_BAD_JSON` or `M_INVALID_PARAM` if it is none, `M_FORBIDDEN` if the room doesn't allow it.
    pub async fn take_membership(
        &self,
        sent: SentMember<'_>,
        membership: MembershipState,
    ) -> Result<(Arc<Room>, Incoming)> {
        let (room, state) = self.room_for_server(sent.origin, sent.room_id).await?;
        check_may_let_in(&room, &membership)?;
        let mut event = Unverified::read(sent.event.get(), room.id(), room.version())
            .map_err(|error| EngineError::bad_json(error.to_string()))?;
        check_sent(&event, sent.origin, sent.event_id, &membership)?;
        check_may_let_out(&room, &state, &event.pdu.fields.sender)?;
        self.vouch_for(&room, &state, &mut event).await?;
        let mut incoming = self
            .verify_one(event, room.version())
            .await
            .map_err(|error| EngineError::forbidden(error.to_string()))?;
        let verdict = self
            .take_and_pass_on(&room, sent.origin, incoming.clone())
            .await?;
        match verdict {
            Verdict::Accepted | Verdict::Known => {
                // With what the room's policy server has signed.
                incoming.json = self.known_in(&room, sent.event_id).await?.json;
                Ok((room, incoming))
            }
            Verdict::SoftFailed(reason) | Verdict::Rejected(reason) => {
                Err(EngineError::forbidden(reason))
            }
            Verdict::Unanchored(reason) => Err(EngineError::not_found(reason)),
        }
    }

    /// Signs a join for which a user of this server vouches.
    async fn vouch_for(
        &self,
        room: &Room,
        state: &RoomState,
        event: &mut Unverified,
    ) -> Result<()> {
        #[derive(Deserialize)]
        struct Content {
            join_authorised_via_users_server: Option<ruma::OwnedUserId>,
        }
        let content: Content = event
            .pdu
            .content_as()
            .map_err(|error| EngineError::bad_json(error.to_string()))?;
        let voucher = content
            .join_authorised_via_users_server
            .filter(|user_id| user_id.server_name() == self.server_name());
        if voucher.is_none() {
            return Ok(());
        }
        let user_id = event.pdu.fields.sender.clone();
        let is_let_in = matches!(
            state.membership(&user_id),
            MembershipState::Join | MembershipState::Invite
        );
        if !is_let_in {
            self.must_vouch(room, state, &user_id).await?;
        }
        event
            .sign(&self.key, room.version())
            .map_err(|error| EngineError::bad_json(error.to_string()))
    }

    /// Takes a join; gives what the other server needs to be in the room.
    ///
    /// `PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}`
    ///
    /// # Errors
    /// As [`Rooms::take_membership`]; `M_LIMIT_EXCEEDED` if the other asks for too much at once.
    pub async fn take_join(&self, sent: SentMember<'_>, omit_members: bool) -> Result<JoinedRoom> {
        let _turn = self.turns.wait(sent.origin).await?;
        let (room, join) = self.take_membership(sent, MembershipState::Join).await?;
        let before = self.state_before_event(&room, &join.pdu.event_id).await?;
        let mut ids: HashSet<OwnedEventId> = before.map.values().cloned().collect();
        let mut servers = Vec::new();
        if omit_members {
            let state = self.registry.load(&room).await?;
            servers = servers_before(&state, &join.pdu.fields.sender);
            for id in omitted(&before, &state, &join.pdu.fields.sender) {
                ids.remove(&id);
            }
        }
        let mut all = ids.clone();
        all.extend(join.pdu.fields.auth_events.iter().cloned());
        let (state, mut chain) = self.state_and_chain(&ids, all).await?;
        if omit_members {
            // What is in the state needn't be told twice.
            let told: HashSet<&str> = state.iter().map(|event| event.get()).collect();
            chain.retain(|event| !told.contains(event.get()));
        }
        Ok(JoinedRoom {
            event: Some(raw(&join.json)?),
            state,
            auth_chain: chain,
            members_omitted: omit_members,
            servers_in_room: servers,
        })
    }

    /// What a user is shown of a room that they have knocked on: whole events.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn shown_to_outsiders(&self, room: &Arc<Room>) -> Result<Vec<RawPdu>> {
        let state = self.registry.load(room).await?;
        let shown: Vec<_> = crate::sync::shown_entries(&state, None).collect();
        self.whole_events(&shown).await
    }

    /// The events of a state, and of what allows `all` of them.
    async fn state_and_chain(
        &self,
        ids: &HashSet<OwnedEventId>,
        all: HashSet<OwnedEventId>,
    ) -> Result<(Vec<RawPdu>, Vec<RawPdu>)> {
        let (events, _) = self.with_auth_chain(all).await?;
        let allowing: HashSet<&OwnedEventId> = events
            .values()
            .flat_map(|pdu| &pdu.fields.auth_events)
            .collect();
        let known = self.database.known_events(events.keys()).await?;
        let mut state = Vec::with_capacity(ids.len());
        let mut chain = Vec::new();
        for (id, event) in &known {
            if ids.contains(id) {
                state.push(raw(&event.json)?);
            }
            if allowing.contains(id) {
                chain.push(raw(&event.json)?);
            }
        }
        Ok((state, chain))
    }

    /// The state before an event of a room.
    async fn state_before_event(&self, room: &Room, event_id: &EventId) -> Result<IdState> {
        let unknown = || EngineError::not_found("the state at that event isn't known");
        let event = self.known_in(room, event_id).await?;
        let pdu = pdu_of(&event).ok_or_else(unknown)?;
        let known = self.known_of(room, &pdu.fields.prev_events).await?;
        let snapshots: Option<HashSet<i64>> = pdu
            .fields
            .prev_events
            .iter()
            .map(|id| known.get(id)?.snapshot)
            .collect();
        let before = match snapshots {
            Some(snapshots) => self.state_before(room, &snapshots).await?,
            // What came before isn't here; but where the event changes nothing, the state after it is the same.
            None if pdu.fields.state_key.is_none() => {
                let snapshot = event.snapshot.ok_or_else(unknown)?;
                return Ok(self.id_state(snapshot).await?.as_ref().clone());
            }
            None => return Err(unknown()),
        };
        match before.resolved {
            Some(resolved) => Ok(resolved.state),
            None if before.base == 0 => Ok(IdState::default()),
            None => Ok(self.id_state(before.base).await?.as_ref().clone()),
        }
    }

    /// An event of a room that this server has.
    async fn known_in(&self, room: &Room, event_id: &EventId) -> Result<KnownEvent> {
        let id = event_id.to_owned();
        let mut known = self.database.known_events([&id]).await?;
        known
            .remove(&id)
            .filter(|event| event.room_nid == room.nid())
            .ok_or_else(|| EngineError::not_found("there is no such event in that room"))
    }

    /// The ids of the state before an event. `GET /_matrix/federation/v1/state_ids/{roomId}`
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it isn't known, `M_BAD_STATE` if members are missing from it, `M_FORBIDDEN` if the other server isn't in
    /// the room, `M_LIMIT_EXCEEDED` if it asks for too much at once.
    pub async fn state_ids_for(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateIds> {
        let (room, _) = self.room_of_server(origin, room_id).await?;
        check_whole(&room)?;
        let _turn = self.turns.wait(origin).await?;
        let state = self.state_before_event(&room, event_id).await?;
        let ids: HashSet<OwnedEventId> = state.map.values().cloned().collect();
        let (events, _) = self.with_auth_chain(ids).await?;
        let chain: HashSet<OwnedEventId> = events
            .values()
            .flat_map(|pdu| pdu.fields.auth_events.iter().cloned())
            .collect();
        Ok(StateIds {
            state: state.map.into_values().collect(),
            auth_chain: chain.into_iter().collect(),
        })
    }

    /// The state before an event. `GET /_matrix/federation/v1/state/{roomId}`
    ///
    /// # Errors
    /// As [`Rooms::state_ids_for`].
    pub async fn state_for_server(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateEvents> {
        let (room, _) = self.room_of_server(origin, room_id).await?;
        check_whole(&room)?;
        let _turn = self.turns.wait(origin).await?;
        let state = self.state_before_event(&room, event_id).await?;
        let ids: HashSet<OwnedEventId> = state.map.values().cloned().collect();
        let (state, auth_chain) = self.state_and_chain(&ids, ids.clone()).await?;
        Ok(StateEvents { state, auth_chain })
    }

    /// Everything that allows an event. `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`
    ///
    /// # Errors
    /// As [`Rooms::state_ids_for`].
    pub async fn event_auth(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<Vec<RawPdu>> {
        let (room, _) = self.room_of_server(origin, room_id).await?;
        let _turn = self.turns.wait(origin).await?;
        let event = self.known_in(&room, event_id).await?;
        let itself = HashSet::from([event.event_id]);
        Ok(self.state_and_chain(&HashSet::new(), itself).await?.1)
    }

    /// One event. `GET /_matrix/federation/v1/event/{eventId}`
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is none that the other server may see.
    pub async fn event_for_server(
        &self,
        origin: &ServerName,
        event_id: &EventId,
    ) -> Result<RawPdu> {
        let unknown = || EngineError::not_found("there is no such event, or you may not see it");
        let id = event_id.to_owned();
        let mut known = self.database.known_events([&id]).await?;
        let event = known.remove(&id).ok_or_else(unknown)?;
        let room = self.registry.by_nid(event.room_nid).await?;
        let (room, _) = self
            .room_of_server(origin, room.id())
            .await
            .map_err(|_| unknown())?;
        if event.standing == Standing::Rejected {
            return Err(unknown());
        }
        let mut shown = self.shown_to_server(origin, &room, vec![event]).await?;
        shown.pop().ok_or_else(unknown)
    }

    /// Events, the first 50 of those that are named, and what came before them, newest first.
    /// `GET /_matrix/federation/v1/backfill/{roomId}`
    ///
    /// # Errors
    /// As [`Rooms::state_ids_for`].
    pub async fn backfill_for(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        mut from: Vec<OwnedEventId>,
        limit: usize,
    ) -> Result<Vec<RawPdu>> {
        let (room, _) = self.room_of_server(origin, room_id).await?;
        from.truncate(MAX_NAMED);
        let events = self
            .back_from(&room, from, limit.min(MAX_HISTORY), |_| true)
            .await?;
        self.shown_to_server(origin, &room, events).await
    }

    /// The events of a gap, oldest first. Of the events that it lies between, the first 50 at either end count.
    /// `POST /_matrix/federation/v1/get_missing_events/{roomId}`
    ///
    /// # Errors
    /// As [`Rooms::state_ids_for`].
    pub async fn missing_for(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        mut gap: Gap,
    ) -> Result<Vec<RawPdu>> {
        let (room, _) = self.room_of_server(origin, room_id).await?;
        gap.latest.truncate(MAX_NAMED);
        gap.earliest.truncate(MAX_NAMED);
        let known = self.database.known_events(&gap.latest).await?;
        let earliest: HashSet<&OwnedEventId> = gap.earliest.iter().collect();
        let from = known
            .values()
            .filter(|event| event.room_nid == room.nid())
            .filter_map(pdu_of)
            .flat_map(|pdu| pdu.fields.prev_events)
            .filter(|id| !earliest.contains(id))
            .collect();
        let min_depth = i64::try_from(gap.min_depth).unwrap_or(i64::MAX);
        let fits =
            |event: &KnownEvent| !earliest.contains(&event.event_id) && event.depth >= min_depth;
        let limit = gap.limit.min(MAX_GAP);
        let mut events = self.back_from(&room, from, limit, fits).await?;
        events.reverse();
        self.shown_to_server(origin, &room, events).await
    }

    /// Events and what came before them, those of the greatest depth first. Those that this server doesn't show its users are
    /// among them, as others are built on them; rejected ones are only passed by.
    async fn back_from(
        &self,
        room: &Room,
        from: Vec<OwnedEventId>,
        limit: usize,
        fits: impl Fn(&KnownEvent) -> bool,
    ) -> Result<Vec<KnownEvent>> {
        let mut seen: HashSet<OwnedEventId> = from.iter().cloned().collect();
        let mut found: HashMap<OwnedEventId, KnownEvent> = HashMap::new();
        let mut heap: BinaryHeap<(i64, OwnedEventId)> = BinaryHeap::new();
        let mut wanted = from;
        let mut events = Vec::new();
        while events.len() < limit {
            for (id, event) in self.database.known_events(&wanted).await? {
                if event.room_nid == room.nid() && fits(&event) {
                    heap.push((event.depth, id.clone()));
                    found.insert(id, event);
                }
            }
            let Some((_, id)) = heap.pop() else { break };
            let Some(event) = found.remove(&id) else {
                break;
            };
            wanted = pdu_of(&event)
                .map(|pdu| pdu.fields.prev_events)
                .unwrap_or_default();
            wanted.retain(|id| seen.insert(id.clone()));
            if event.standing != Standing::Rejected {
                events.push(event);
            }
        }
        Ok(events)
    }
}

/// The servers that were in a room before a user joined.
fn servers_before(state: &RoomState, joined: &UserId) -> Vec<OwnedServerName> {
    let was_there =
        |(server, size): &(&OwnedServerName, usize)| *server != joined.server_name() || *size > 1;
    let servers = state.servers().filter(was_there);
    servers.map(|(server, _)| server.clone()).collect()
}

/// The member events that a server doesn't need to be in a room with its user: all but theirs, and those of the members
/// after whom the room is named.
fn omitted(before: &IdState, state: &RoomState, user_id: &UserId) -> Vec<OwnedEventId> {
    let mut kept = Summary::new(state, user_id).heroes.unwrap_or_default();
    kept.push(user_id.to_owned());
    let is_kept = |member: &str| kept.iter().any(|kept| kept.as_str() == member);
    let places = before.map.iter();
    places
        .filter(|((event_type, state_key), _)| {
            *event_type == StateEventType::RoomMember && !is_kept(state_key)
        })
        .map(|(_, id)| id.clone())
        .collect()
}

/// Whether this server can say if somebody may join or knock: not while it lacks members of the room.
///
/// # Errors
/// `M_NOT_FOUND` if it can't, so that the other server asks elsewhere.
fn check_may_let_in(room: &Room, membership: &MembershipState) -> Result<()> {
    match room.lacks_members() && *membership != MembershipState::Leave {
        false => Ok(()),
        true => Err(lacking()),
    }
}

/// Whether this server can say if a user may leave: not of somebody who may be one of the members that it lacks.
///
/// # Errors
/// As [`check_may_let_in`].
fn check_may_let_out(room: &Room, state: &RoomState, user_id: &UserId) -> Result<()> {
    match room.lacks_members() && state.member(user_id).is_none() {
        false => Ok(()),
        true => Err(lacking()),
    }
}

/// Why this server can't say something of a room yet.
const LACKING: &str = "this server is still being told who is in that room";

fn lacking() -> EngineError {
    EngineError::not_found(LACKING)
}

/// Whether this server knows the states of a room.
///
/// # Errors
/// `M_BAD_STATE` with status 403 if members are missing from them. `M_FORBIDDEN` would say that the other server isn't in the
/// room, and a 404 that nobody will ever know.
fn check_whole(room: &Room) -> Result<()> {
    match room.lacks_members() {
        false => Ok(()),
        true => Err(EngineError::refused(ErrorKind::BadState, LACKING)),
    }
}

/// A server speaks for its own users alone.
fn check_origin(origin: &ServerName, user_id: &UserId) -> Result<()> {
    match user_id.server_name() == origin {
        true => Ok(()),
        false => Err(EngineError::forbidden("this is no user of your server")),
    }
}

/// Whether an event is the member event that it is sent as.
fn check_sent(
    event: &Unverified,
    origin: &ServerName,
    event_id: &EventId,
    membership: &MembershipState,
) -> Result<()> {
    #[derive(Deserialize)]
    struct Content {
        membership: MembershipState,
    }
    let fields = &event.pdu.fields;
    check_origin(origin, &fields.sender)?;
    if event.pdu.event_id != event_id {
        return Err(EngineError::bad_json("the event has another id"));
    }
    let is_own = fields.state_key.as_deref() == Some(fields.sender.as_str());
    let content: Content = event
        .pdu
        .content_as()
        .map_err(|error| EngineError::bad_json(error.to_string()))?;
    if fields.event_type != TimelineEventType::RoomMember
        || !is_own
        || content.membership != *membership
    {
        return Err(EngineError::bad_json(format!(
            "the event is no {membership} of its sender"
        )));
    }
    Ok(())
}
