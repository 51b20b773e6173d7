//! Being told who is in the rooms that this server came into without their members.
//!
//! What is missing is asked of the servers in the room, one after the other, and put into the very snapshot that lacks it:
//! so all states that are built on that have it too. Then what was taken in meanwhile is judged again
//! ([`recheck`](super::recheck)), and the room is whole. Which rooms are still to be completed is stored, so it goes on after
//! a restart; of several nodes one works on a room.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use parley_protocol::Pdu;
use parley_storage::{
    commit::{Assigned, Standing},
    events::EventRow,
    partial::PartialRow,
    summaries::is_shown,
};
use ruma::{OwnedEventId, OwnedServerName, OwnedUserId, ServerName};
use tokio::sync::Notify;

use super::{
    receive::{UNTIL_STORED, current_snapshot},
    recheck::{Claims, Recheck},
    resolve::{IdState, before_over, pdu_of},
};
use crate::{
    EngineError, Result,
    rooms::{
        ATTEMPTS, Rooms,
        edit::{
            Edit,
            received::{CurrentStands, PlaceChange, left},
            rewrite::WholeCurrent,
        },
        room::{Head, Room},
        room_write,
        state::RoomState,
    },
    stream::committer::NotCommitted,
};

/// Rooms that are worked on at once: the members of a large one take memory until they are stored, but mostly it is waited
/// for other servers.
const AT_ONCE: usize = 8;
/// For how long a room is taken to be worked on, in milliseconds, and how often that is renewed. If a node ends without
/// notice, others go on after that.
const LEASE_MS: i64 = 120_000;
const RENEWAL: Duration = Duration::from_secs(40);
/// How often it is looked whether another node has left a room behind.
const LOOK: Duration = Duration::from_secs(60);
/// After what time a room is tried again first, twice as long each time, and at most; in milliseconds.
const FIRST_RETRY_MS: i64 = 1_000;
const MAX_RETRY_MS: i64 = 30 * 60_000;
/// Servers that are asked in one attempt, and how long that may take.
const MAX_SERVERS: usize = 10;
const MAX_TIME: Duration = Duration::from_secs(15 * 60);

/// The rooms that are being completed by this node.
#[derive(Debug, Default)]
pub(crate) struct Completing {
    working: Mutex<HashSet<i64>>,
    /// There may be more to do.
    wake: Notify,
}

impl Completing {
    /// Has it be looked for rooms to complete.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    fn working<T>(&self, use_it: impl FnOnce(&mut HashSet<i64>) -> T) -> T {
        use_it(&mut self.working.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Nothing is missing any more: all members are known, this server has learned that it isn't in the room, or another join
    /// has taken the place of this one.
    Done,
    /// This server is no longer in the room, so nobody tells it.
    Away,
}

impl Rooms {
    /// Completes rooms as long as the server runs, those first that weren't complete when it last stopped.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn resume_completing(self: &Arc<Self>) -> Result<()> {
        self.database.free_partial_rooms().await?;
        let rooms = self.clone();
        let stopping = self.background.stopping().clone();
        self.background.spawn(async move {
            stopping.run_until_cancelled(rooms.complete_rooms()).await;
        });
        Ok(())
    }

    async fn complete_rooms(self: &Arc<Self>) {
        loop {
            let wait = self.begin_due().await.unwrap_or_else(|error| {
                tracing::error!(%error, "rooms that lack members can't be read");
                LOOK
            });
            tokio::select! {
                () = self.completing.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Begins to complete the rooms whose time has come, as many as may be at once. Gives the time until the next.
    async fn begin_due(self: &Arc<Self>) -> Result<Duration> {
        let now = self.clock.now_ms();
        let limit = i64::try_from(2 * AT_ONCE).unwrap_or(i64::MAX);
        for row in self.database.due_partial_rooms(now, limit).await? {
            let may_begin = self
                .completing
                .working(|working| working.len() < AT_ONCE && working.insert(row.room_nid));
            if !may_begin {
                continue;
            }
            let taken = self.database.take_partial_room(&row, now, now + LEASE_MS);
            match taken.await {
                Ok(true) => self.spawn_attempt(row),
                taken => {
                    self.completing
                        .working(|working| working.remove(&row.room_nid));
                    taken?;
                }
            }
        }
        let next = self.database.next_partial_retry().await?;
        let wait = next.map_or(i64::MAX, |at| (at - self.clock.now_ms()).max(1_000));
        Ok(Duration::from_millis(u64::try_from(wait).unwrap_or_default()).min(LOOK))
    }

    fn spawn_attempt(self: &Arc<Self>, row: PartialRow) {
        let rooms = self.clone();
        let stopping = self.background.stopping().clone();
        self.background.spawn(async move {
            let attempt = stopping.run_until_cancelled(rooms.attempt(&row)).await;
            let now = rooms.clock.now_ms();
            let noted = match attempt {
                Some(Ok(Attempt::Done)) => Ok(true),
                Some(Ok(Attempt::Away)) => rooms.put_aside(&row).await,
                Some(Err(error)) => {
                    tracing::info!(room_id = %row.room_id, %error, "a room is still without its members");
                    rooms.try_later(row.clone(), now).await
                }
                // Another node, or this one once it is started again, may go on at once.
                None => Ok(rooms.database.set_partial_retry(&row, now).await.unwrap_or_default()),
            };
            if let Err(error) = noted {
                tracing::error!(room_id = %row.room_id, %error, "a room without members is tried again later than it could be");
            }
            rooms.completing.working(|working| working.remove(&row.room_nid));
            rooms.completing.wake();
        });
    }

    async fn try_later(&self, mut row: PartialRow, now: i64) -> Result<bool> {
        let doubled = u32::try_from(row.attempts.clamp(0, 20)).unwrap_or_default();
        let wait = (FIRST_RETRY_MS << doubled).min(MAX_RETRY_MS);
        row.attempts += 1;
        Ok(self.database.set_partial_retry(&row, now + wait).await?)
    }

    /// Leaves a room that this server isn't in until it is in it again.
    async fn put_aside(&self, row: &PartialRow) -> Result<bool> {
        let noted = self.database.set_partial_retry(row, i64::MAX).await?;
        let room = self.registry.by_nid(row.room_nid).await?;
        if self.is_here(&room).await? {
            // It has just come back.
            self.database.wake_partial_room(row.room_nid).await?;
        }
        Ok(noted)
    }

    async fn attempt(&self, row: &PartialRow) -> Result<Attempt> {
        let renewed = async {
            loop {
                tokio::time::sleep(RENEWAL).await;
                let until = self.clock.now_ms() + LEASE_MS;
                if let Err(error) = self.database.set_partial_retry(row, until).await {
                    tracing::warn!(%error, "another node may complete the same room");
                }
            }
        };
        tokio::select! {
            attempt = self.complete_by_servers(row) => attempt,
            () = renewed => Ok(Attempt::Away),
            () = tokio::time::sleep(MAX_TIME) => {
                Err(EngineError::unknown("the servers in the room take too long"))
            }
        }
    }

    async fn complete_by_servers(&self, row: &PartialRow) -> Result<Attempt> {
        let room = self.registry.by_nid(row.room_nid).await?;
        let joins = self.database.events_at(vec![row.join_position]).await?;
        let join = joins.into_iter().next();
        let join = join.and_then(|join| Pdu::parse(join.event_id, &join.json).ok());
        let join = join.ok_or_else(|| {
            EngineError::Internal("the join to a room without members is lost".to_owned())
        })?;
        let mut failed = EngineError::not_found("there is no server to ask for the members");
        for server in in_turn(row, self.server_name()) {
            if !self.is_here(&room).await? {
                return Ok(Attempt::Away);
            }
            match self.whole_state(&room, &server, &join, row).await {
                Ok(state) => return self.complete_room(&room, row, &state).await,
                Err(EngineError::Storage(error)) => return Err(error.into()),
                Err(error) => {
                    tracing::info!(room = %room.id(), %server, %error, "a server doesn't tell who is in a room");
                    failed = error;
                }
            }
        }
        if self.is_put_out_of(&room, row, &join.event_id).await? {
            return self.note_put_out(&room).await;
        }
        Err(failed)
    }

    /// Asks a server for the whole state before a join, and checks it.
    async fn whole_state(
        &self,
        room: &Arc<Room>,
        server: &ServerName,
        join: &Pdu,
        row: &PartialRow,
    ) -> Result<IdState> {
        let state = match join.fields.prev_events.as_slice() {
            // Other servers than that by which it was joined know that event for sure, and the join perhaps not yet.
            [only] => match self.state_after_event(room, server, only).await {
                Ok(state) => state,
                Err(EngineError::Storage(error)) => return Err(error.into()),
                // One that came into the room by that event doesn't know the state before it.
                Err(_) => self.told_before_event(room, server, &join.event_id).await?,
            },
            _ => self.told_before_event(room, server, &join.event_id).await?,
        };
        self.check_whole(room, &state, join, row).await?;
        Ok(state)
    }

    /// Asks a server for the state before an event.
    async fn told_before_event(
        &self,
        room: &Arc<Room>,
        server: &ServerName,
        event_id: &OwnedEventId,
    ) -> Result<IdState> {
        let given = self.fetch_state(room, server, event_id, true).await?;
        self.whole_of(event_id, given)
    }

    /// Asks a server for an event and the state before it; gives that after it.
    async fn state_after_event(
        &self,
        room: &Arc<Room>,
        server: &ServerName,
        event_id: &OwnedEventId,
    ) -> Result<IdState> {
        let mut state = self.told_before_event(room, server, event_id).await?;
        let ids = [event_id.clone()];
        if !self.database.has_event(event_id).await? {
            self.fetch_with_auth(room, server, ids.to_vec()).await?;
        }
        let known = self.known_of(room, &ids).await?;
        let event = known
            .get(event_id)
            .ok_or_else(|| EngineError::not_found("what the join is built on can't be had"))?;
        if event.standing != Standing::Rejected
            && let Some(pdu) = pdu_of(event)
        {
            state.put(&pdu, Assigned::known(event.position));
        }
        Ok(state)
    }

    /// Whether a state has everything that this server was told with its join, and allows the join.
    async fn check_whole(
        &self,
        room: &Room,
        state: &IdState,
        join: &Pdu,
        row: &PartialRow,
    ) -> Result<()> {
        let told = self.id_state(row.snapshot).await?;
        for (place, id) in &told.map {
            if *id != join.event_id && !state.map.contains_key(place) {
                return Err(EngineError::unknown("the state lacks what was told before"));
            }
        }
        let create = (ruma::events::StateEventType::RoomCreate, String::new());
        if told.map.get(&create) != state.map.get(&create) {
            return Err(EngineError::unknown("the state is of another room"));
        }
        let before = before_over(row.snapshot, &told.map, state.clone());
        let nothing = Claims::new();
        let allowed = self.check_by_state(room, join, &before, &nothing);
        allowed.await?.map_err(|reason| {
            EngineError::unknown(format!("the state doesn't allow the join: {reason}"))
        })
    }

    /// Completes a room with the state before the join.
    async fn complete_room(
        &self,
        room: &Arc<Room>,
        row: &PartialRow,
        before: &IdState,
    ) -> Result<Attempt> {
        let events = before.positions.values().map(|at| at.get()).collect();
        self.database.fill_snapshot(row, events).await?;
        self.registry.note_completion();
        let unheard = self.left_before(room, row.join_position, before).await?;
        let mut recheck = match row.filled {
            true => Recheck::again_since(row.join_position),
            false => Recheck::since(row.join_position),
        };
        for _ in 0..ATTEMPTS {
            let until = self.clock.now_ms() + LEASE_MS;
            if !self.database.set_partial_retry(row, until).await? {
                return Ok(Attempt::Done);
            }
            self.recheck(room, &mut recheck).await?;
            if self
                .write_completion(room, row, recheck.newest(), &unheard)
                .await?
            {
                tracing::info!(room = %room.id(), "all members of a room are known");
                return Ok(Attempt::Done);
            }
        }
        Err(NotCommitted::Rebuild.into())
    }

    /// Makes the whole state the current one, if nothing has come since the position up to which everything was checked.
    /// `unheard`: leaves that the state before the join doesn't know of.
    async fn write_completion(
        &self,
        room: &Arc<Room>,
        row: &PartialRow,
        checked: i64,
        unheard: &[EventRow],
    ) -> Result<bool> {
        let head = self.stored_head(room).await?;
        let Some(head) = head.filter(|head| head.newest.get() <= checked) else {
            return Ok(false);
        };
        let ends = unheard
            .iter()
            .map(|leave| (leave.event_id.clone(), leave.position));
        let ends = self
            .not_built_on(room, ends.collect(), row.join_position, None)
            .await?;
        let current = self.whole_current(room, &head, ends).await?;
        self.write_whole(room, &head, current).await
    }

    /// A room's head, if all of it is stored; else waits a moment.
    pub(super) async fn stored_head(&self, room: &Room) -> Result<Option<Head>> {
        let head = self.head_now(room).await?;
        let is_stored = current_snapshot(&head) != 0
            && head.newest.get() != 0
            && head.extremities.iter().all(|(_, at)| at.get() != 0);
        if !is_stored {
            tokio::time::sleep(UNTIL_STORED).await;
        }
        Ok(is_stored.then_some(head))
    }

    /// Makes a state the current one in which nothing is missing any more, if the room's head is still the one that it was found
    /// for.
    pub(super) async fn write_whole(
        &self,
        room: &Arc<Room>,
        head: &Head,
        current: WholeCurrent,
    ) -> Result<bool> {
        let permit = self.committer.reserve().await?;
        let mut guard = room.head.lock().await;
        let now = self.current_head(room, &mut guard).await?;
        let is_same = head.extremities_are(&now)
            && head.revision == now.revision
            && current_snapshot(head) == current_snapshot(&now);
        if !is_same {
            return Ok(false);
        }
        let mut edit = Edit::new(room, &self.key, now);
        edit.complete(current);
        let (write, publication, head) = edit.finish(room.clone());
        *guard = Some(head);
        let pending = permit.queue(room_write(write), vec![publication]);
        drop(guard);
        match pending.committed().await {
            Ok(()) => Ok(true),
            Err(NotCommitted::Rebuild) => Ok(false),
            Err(failed) => Err(failed.into()),
        }
    }

    /// The current state of a room by what is stored now, with some ends of its graph beside those that are known as such.
    async fn whole_current(
        &self,
        room: &Room,
        head: &Head,
        mut ends: Vec<(OwnedEventId, Assigned)>,
    ) -> Result<WholeCurrent> {
        let base = current_snapshot(head);
        ends.retain(|(id, _)| head.extremities.iter().all(|(other, _)| other != id));
        let all = head.extremities.iter().chain(&ends);
        let all = all.map(|(_, at)| at.get()).collect();
        let all = self.database.events_at(all).await?;
        let snapshots: HashSet<i64> = all.iter().map(|row| row.snapshot).collect();
        let resolved = self.state_before(room, &snapshots).await?;
        let to = match resolved.resolved {
            Some(resolved) => resolved.state,
            None => self.id_state(resolved.base).await?.as_ref().clone(),
        };
        let from = self.id_state(base).await?;
        let newest = head.newest.get();
        let mut state = self.registry.read_state(room, base, newest).await?;
        let nothing = ruma::owned_event_id!("$nothing");
        let mut changes = Vec::new();
        for change in self.current_changes(&from.map, &to, &nothing).await? {
            let (event_type, state_key) = (&change.event_type, &change.state_key);
            let position = match change.stands {
                CurrentStands::Other(entry) => {
                    let position = entry.position.clone();
                    state.apply_at(entry, &head.newest, room.version());
                    Some(position)
                }
                _ => {
                    state.remove(event_type, state_key, &head.newest, room.version());
                    None
                }
            };
            changes.push(PlaceChange::of(event_type, state_key, position));
        }
        Ok(WholeCurrent {
            members: self.changed_members(room, &state).await?,
            shown: shown(&state),
            state: Arc::new(state),
            changes,
            ends,
            is_apart: false,
        })
    }

    /// The memberships that are other than is noted.
    async fn changed_members(
        &self,
        room: &Room,
        state: &RoomState,
    ) -> Result<Vec<(OwnedUserId, Option<String>)>> {
        let noted = self.database.members_of(room.nid()).await?;
        let noted: HashMap<OwnedUserId, String> = noted
            .into_iter()
            .map(|(user_id, membership, _)| (user_id, membership))
            .collect();
        let mut changed: Vec<(OwnedUserId, Option<String>)> = state
            .members()
            .filter(|(user_id, member)| {
                noted.get(*user_id).map(String::as_str) != Some(member.membership.as_str())
            })
            .map(|(user_id, member)| (user_id.clone(), Some(member.membership.to_string())))
            .collect();
        let is_gone = |(user_id, membership): &(OwnedUserId, String)| {
            // What else is noted of this server's users may come by invitations from outside.
            let is_told = !self.is_local(user_id) || membership == "join";
            state.member(user_id).is_none() && is_told
        };
        let gone = noted.into_iter().filter(is_gone);
        changed.extend(gone.map(|(user_id, _)| {
            let membership = left(&user_id, self.server_name());
            (user_id, membership)
        }));
        Ok(changed)
    }
}

/// The servers to ask: that first by which the room was joined, other ones with each attempt.
pub(super) fn in_turn(row: &PartialRow, own: &ServerName) -> Vec<OwnedServerName> {
    let mut servers: Vec<OwnedServerName> = serde_json::from_str(&row.servers).unwrap_or_default();
    servers.retain(|server| server != own);
    if servers.is_empty() {
        return servers;
    }
    let turns = usize::try_from(row.attempts).unwrap_or_default();
    let first = turns.saturating_mul(MAX_SERVERS) % servers.len();
    servers.rotate_left(first);
    servers.truncate(MAX_SERVERS);
    servers
}

/// What a room shows of itself, with where that stands.
pub(super) fn shown(state: &RoomState) -> Vec<(String, Option<Assigned>)> {
    let shown = state.events().filter_map(|entry| {
        let event_type = entry.event.event_type.to_string();
        is_shown(&event_type, Some(&entry.event.state_key))
            .then(|| (event_type, Some(entry.position.clone())))
    });
    shown.collect()
}
