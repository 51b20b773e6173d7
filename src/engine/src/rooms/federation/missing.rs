//! Asking for what an event is built on and this server doesn't have: what allows it, what came before it, the state.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, stream};
use parley_protocol::{Incoming, IncomingError, Pdu, RoomVersion, Unverified};
use parley_storage::commit::Standing;
use ruma::{EventId, OwnedEventId, ServerName, events::StateEventType};

use super::{
    receive::{Known, check_by_auth_events},
    resolve::{IdState, StateBefore, before_over, pdu_of},
};
use crate::{
    EngineError, Result,
    remote::{MissingEvents, RawPdu, RemoteError},
    rooms::{Rooms, room::Room},
};

/// Events that one answer of another server may bring of a gap.
const MAX_GAP: u64 = 50;
/// Missing predecessors of one event that are asked for with the state after each: a request for a state is expensive.
const MAX_MISSING: usize = 10;
/// Events that are asked for one by one, before all of them are.
const MAX_SINGLE: usize = 50;
/// How many are asked for at once.
const AT_ONCE: usize = 5;
/// How far back it is asked for what allows what allows an event.
const MAX_AUTH_ROUNDS: usize = 20;
/// Events that a state, or what allows an event, may consist of.
const MAX_STATE: usize = 200_000;

/// A state as another server gives it.
pub(super) struct Given {
    /// What could be had of it.
    pub(super) state: IdState,
    /// Whether that is all.
    pub(super) is_whole: bool,
}

/// Events that were checked by what allows them.
pub(super) struct Checked {
    /// Those that aren't stored yet, each after those that allow it, with how they stand.
    pub(super) new: Vec<(Incoming, Standing)>,
    /// All that are known now.
    pub(super) known: Known,
    /// Those that are dropped because their signatures can't be checked, and why.
    pub(super) unchecked: HashMap<OwnedEventId, IncomingError>,
}

impl Checked {
    /// Whether an event is allowed by its auth events.
    ///
    /// # Errors
    /// In a few words, why it isn't.
    pub(super) fn allow(&self, pdu: &Pdu, version: &RoomVersion) -> Result<(), String> {
        let mut auth_events = pdu.fields.auth_events.iter();
        if let Some((id, error)) = auth_events.find_map(|id| self.unchecked.get_key_value(id)) {
            return Err(format!("{id}, by which it is, can't be checked: {error}"));
        }
        check_by_auth_events(pdu, version, &self.known)
    }
}

/// What became of a question for a gap.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// What the other server told is taken in. If that is not what was missing, it doesn't tell that.
    Answered,
    /// It said no: the state may be had, if not the events.
    Refused,
    /// It wasn't reached. To do without would leave a gap that need not stay.
    Unreachable,
}

impl Rooms {
    /// Makes sure that what allows an event is known, as far as it can be had.
    pub(super) async fn need_auth_events(
        &self,
        room: &Room,
        origin: &ServerName,
        pdu: &Pdu,
        known: &mut Known,
    ) -> Result<()> {
        let mut needed: Vec<OwnedEventId> = pdu.fields.auth_events.clone();
        needed.extend(create_event_id(room));
        let is_missing = |id: &&OwnedEventId, known: &Known| !known.contains_key(*id);
        if needed.iter().all(|id| known.contains_key(id)) {
            return Ok(());
        }
        known.extend(self.known_of(room, &needed).await?);
        if !needed.iter().any(|id| is_missing(&id, known)) {
            return Ok(());
        }
        let remote = self.outside.remote()?;
        let chain = remote.event_auth(origin, room.id(), &pdu.event_id).await;
        if let Ok(chain) = chain {
            self.store_outliers(room, chain).await?;
        }
        let missing = needed.iter().filter(|id| is_missing(id, known)).cloned();
        let missing: Vec<OwnedEventId> = missing.collect();
        self.fetch_with_auth(room, origin, missing).await?;
        known.extend(self.known_of(room, &needed).await?);
        Ok(())
    }

    /// Those of some events that are stored as events of a room.
    pub(super) async fn known_of<'a>(
        &self,
        room: &Room,
        ids: impl IntoIterator<Item = &'a OwnedEventId>,
    ) -> Result<Known> {
        let mut known = self.database.known_events(ids).await?;
        known.retain(|_, event| event.room_nid == room.nid());
        Ok(known)
    }

    /// Asks for events, and for what allows them, and that, until all is known.
    pub(super) async fn fetch_with_auth(
        &self,
        room: &Room,
        origin: &ServerName,
        ids: Vec<OwnedEventId>,
    ) -> Result<()> {
        let mut asked: HashSet<OwnedEventId> = HashSet::new();
        let mut pending = ids;
        let mut fetched = Vec::new();
        for _ in 0..MAX_AUTH_ROUNDS {
            let known = self.database.known_events(&pending).await?;
            pending.retain(|id| !known.contains_key(id) && asked.insert(id.clone()));
            if pending.is_empty() {
                break;
            }
            // What is asked for, and when, is no matter of chance.
            pending.sort();
            pending.truncate(MAX_SINGLE);
            let events = self.fetch_events(origin, &pending).await;
            pending.clear();
            for event in &events {
                if let Ok(event) = Unverified::read(event.get(), room.id(), room.version()) {
                    pending.extend(event.pdu.fields.auth_events);
                }
            }
            fetched.extend(events);
        }
        self.store_outliers(room, fetched).await
    }

    /// Asks for single events; those that don't come are left out.
    async fn fetch_events(&self, origin: &ServerName, ids: &[OwnedEventId]) -> Vec<RawPdu> {
        let Some(remote) = self.outside.get() else {
            return Vec::new();
        };
        let requests: Vec<_> = ids.iter().map(|id| remote.event(origin, id)).collect();
        let answers: Vec<_> = stream::iter(requests)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        answers.into_iter().filter_map(Result::ok).collect()
    }

    /// Checks events by what allows them, and stores them outside the timeline. Those that are known, are no events of
    /// the room, or stand on what isn't known, are left out.
    pub(super) async fn store_outliers(&self, room: &Room, events: Vec<RawPdu>) -> Result<()> {
        let events = read_all(room, &events);
        let checked = self.check_outliers(room, events).await?.new;
        if checked.is_empty() {
            return Ok(());
        }
        let room = self.registry.by_nid(room.nid()).await?;
        let stored = self
            .edit(&room, |edit| {
                for (incoming, standing) in &checked {
                    edit.add_outlier(incoming, *standing, None, None);
                }
                Ok(())
            })
            .await;
        match stored {
            // Somebody else has just stored one of them, and the others come again when they are needed.
            Err(EngineError::Duplicate) => Ok(()),
            stored => stored,
        }
    }

    /// Checks events by what allows them.
    pub(super) async fn check_outliers(
        &self,
        room: &Room,
        events: Vec<Unverified>,
    ) -> Result<Checked> {
        let mut unverified: HashMap<OwnedEventId, Unverified> = events
            .into_iter()
            .map(|event| (event.pdu.event_id.clone(), event))
            .collect();
        let auth_ids: HashSet<OwnedEventId> = unverified
            .values()
            .flat_map(|event| event.pdu.fields.auth_events.iter().cloned())
            .chain(create_event_id(room))
            .collect();
        let asked = unverified.keys().chain(&auth_ids);
        let mut known = self.database.known_events(asked).await?;
        unverified.retain(|id, _| !known.contains_key(id));
        known.retain(|_, event| event.room_nid == room.nid());
        let (ids, unverified): (Vec<_>, Vec<_>) = unverified.into_iter().unzip();
        let verified = self.verify(unverified, room.version()).await?;
        let mut incoming = HashMap::with_capacity(verified.len());
        let mut unchecked = HashMap::new();
        for (id, event) in ids.into_iter().zip(verified) {
            match event {
                Ok(event) => _ = incoming.insert(id, event),
                Err(error) => {
                    tracing::debug!(room = %room.id(), event = %id, %error, "an event is dropped");
                    unchecked.insert(id, error);
                }
            }
        }
        Ok(Checked {
            new: judge(room, incoming, &mut known),
            known,
            unchecked,
        })
    }

    /// Makes sure that what an event is built on is known, with the state after it; gives the snapshots of those. `None` if
    /// it can't be had now.
    pub(super) async fn need_prev_events(
        &self,
        room: &std::sync::Arc<Room>,
        origin: &ServerName,
        pdu: &Pdu,
        known: &mut Known,
        fill: bool,
    ) -> Result<Option<HashSet<i64>>> {
        let prev = &pdu.fields.prev_events;
        let missing = |known: &Known| -> Vec<OwnedEventId> {
            let lacks =
                |id: &&OwnedEventId| known.get(*id).is_none_or(|event| event.snapshot.is_none());
            prev.iter().filter(lacks).cloned().collect()
        };
        if !missing(known).is_empty() && fill {
            let asked = self.fill_gap(room, origin, pdu).await?;
            if asked == Asked::Unreachable {
                return Ok(None);
            }
            known.extend(self.known_of(room, prev).await?);
            if asked == Asked::Answered && !missing(known).is_empty() {
                return Ok(None);
            }
        }
        let still = missing(known);
        if still.len() > MAX_MISSING {
            return Err(EngineError::forbidden(
                "the event is built on more than can be asked for",
            ));
        }
        for id in &still {
            match self.fetch_state_after(room, origin, id).await {
                Err(EngineError::Refused { message, .. }) => {
                    tracing::debug!(room = %room.id(), event = %pdu.event_id, %message, "a gap stays");
                    return Ok(None);
                }
                fetched => fetched?,
            }
        }
        if !still.is_empty() {
            known.extend(self.known_of(room, prev).await?);
        }
        // By a part of the states before it, it would be judged otherwise than by all.
        let snapshots = prev.iter().map(|id| known.get(id)?.snapshot);
        Ok(snapshots.collect())
    }

    /// Asks for the events between the room's head and an event, and takes them in.
    async fn fill_gap(
        &self,
        room: &std::sync::Arc<Room>,
        origin: &ServerName,
        pdu: &Pdu,
    ) -> Result<Asked> {
        let remote = self.outside.remote()?;
        let extremities = self.extremities(room).await?;
        let missing = MissingEvents {
            earliest: &extremities,
            latest: std::slice::from_ref(&pdu.event_id),
            limit: MAX_GAP,
            min_depth: 0,
        };
        let events = match remote.missing_events(origin, room.id(), missing).await {
            Ok(events) => events,
            Err(error) => {
                tracing::debug!(room = %room.id(), %error, "a gap stays");
                return Ok(match error {
                    RemoteError::Unreachable(_) => Asked::Unreachable,
                    RemoteError::Nonsense(_) => Asked::Answered,
                    _ => Asked::Refused,
                });
            }
        };
        let mut gap = Vec::new();
        for event in events.iter().take(MAX_GAP as usize) {
            match Unverified::read(event.get(), room.id(), room.version()) {
                Ok(event) => gap.push(event),
                Err(error) => tracing::debug!(room = %room.id(), %error, "an event is dropped"),
            }
        }
        gap.sort_by_key(|event| event.pdu.fields.depth);
        let gap = self.verify(gap, room.version()).await?;
        let are_all_right = gap.iter().all(Result::is_ok);
        let (id, now) = (&pdu.event_id, self.clock.now_ms());
        if !are_all_right && !self.lacking.is_out_of_patience(id, now) {
            // Mostly for want of keys. The later events of the gap would be taken by the state before them, and the earlier
            // never be asked for again.
            tracing::debug!(room = %room.id(), event = %id, "some of a gap can't be checked");
            return Ok(Asked::Unreachable);
        }
        for event in gap {
            let taken = match event {
                Ok(event) if event.pdu.event_id == pdu.event_id => continue,
                Ok(event) => Box::pin(self.take(room, origin, event, false)).await,
                Err(error) => Err(EngineError::forbidden(error.to_string())),
            };
            if let Err(error) = taken {
                tracing::debug!(room = %room.id(), %error, "an event of a gap is dropped");
            }
        }
        Ok(Asked::Answered)
    }

    async fn extremities(&self, room: &std::sync::Arc<Room>) -> Result<Vec<OwnedEventId>> {
        let mut guard = room.head.lock().await;
        let head = self.current_head(room, &mut guard).await?;
        Ok(head.extremities.into_iter().map(|(id, _)| id).collect())
    }

    /// Asks for an event and the state before it, and stores the event with the state after it.
    async fn fetch_state_after(
        &self,
        room: &std::sync::Arc<Room>,
        origin: &ServerName,
        id: &OwnedEventId,
    ) -> Result<()> {
        let given = self.fetch_state(room, origin, id, false).await?;
        let state = self.whole_of(id, given)?;
        let only = std::slice::from_ref(id);
        if !self.database.has_event(id).await? {
            self.fetch_with_auth(room, origin, only.to_vec()).await?;
        }
        let mut known = self.known_of(room, only).await?;
        let event = known
            .remove(id)
            .ok_or_else(|| EngineError::not_found(format!("{id} can't be had")))?;
        let pdu = pdu_of(&event)
            .ok_or_else(|| EngineError::Internal("a stored event is unreadable".to_owned()))?;
        let before = self.over_current(room, state).await?;
        let after = match event.standing {
            Standing::Rejected => self.unchanged(&before).await?,
            _ => self.state_after(&before, &pdu).await?,
        };
        let incoming = Incoming {
            pdu,
            json: event.json,
        };
        self.edit(room, |edit| {
            let stored = Some(event.position);
            edit.add_outlier(&incoming, event.standing, stored, Some(after.clone()));
            Ok(())
        })
        .await
    }

    /// A state, as what it changes over the room's current one.
    pub(super) async fn over_current(
        &self,
        room: &std::sync::Arc<Room>,
        state: IdState,
    ) -> Result<StateBefore> {
        let base = self
            .database
            .snapshot_at(room.nid(), i64::MAX)
            .await?
            .ok_or_else(|| EngineError::Internal("a room without events".to_owned()))?;
        let of_base = self.id_state(base).await?;
        Ok(before_over(base, &of_base.map, state))
    }

    /// The state that a server gave.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if some of it can't be had now: for ten minutes, then it is taken as it is.
    pub(super) fn whole_of(&self, id: &OwnedEventId, given: Given) -> Result<IdState> {
        let is_taken = given.is_whole || self.lacking.is_out_of_patience(id, self.clock.now_ms());
        match is_taken {
            true => Ok(given.state),
            false => Err(EngineError::not_found(format!(
                "some of the state at {id} can't be had"
            ))),
        }
    }

    /// Asks for the state before an event, also a server that fails if users wait for it, and stores what isn't known of it.
    pub(super) async fn fetch_state(
        &self,
        room: &std::sync::Arc<Room>,
        origin: &ServerName,
        id: &EventId,
        is_waited_for: bool,
    ) -> Result<Given> {
        let remote = self.outside.remote()?;
        let unavailable = |error: crate::remote::RemoteError| {
            EngineError::not_found(format!("the state at {id} can't be had: {error}"))
        };
        let ids = remote
            .state_ids(origin, room.id(), id, is_waited_for)
            .await
            .map_err(unavailable)?;
        if ids.state.len() + ids.auth_chain.len() > MAX_STATE {
            return Err(EngineError::too_large("the state is too large"));
        }
        let all = || ids.state.iter().chain(&ids.auth_chain);
        let known = self.database.known_events(all()).await?;
        let missing: Vec<OwnedEventId> = all()
            .filter(|id| !known.contains_key(*id))
            .cloned()
            .collect();
        if missing.len() > MAX_SINGLE {
            let state = remote.state(origin, room.id(), id).await;
            let state = state.map_err(unavailable)?;
            let events = state.state.into_iter().chain(state.auth_chain).collect();
            self.store_outliers(room, events).await?;
        } else if !missing.is_empty() {
            self.fetch_with_auth(room, origin, missing).await?;
        }
        let mut state = IdState::default();
        let known = self.known_of(room, &ids.state).await?;
        let is_whole = ids.state.iter().all(|id| known.contains_key(id));
        for event in known.into_values() {
            if event.standing != Standing::Rejected
                && let Some(pdu) = pdu_of(&event)
            {
                let position = parley_storage::commit::Assigned::known(event.position);
                state.put(&pdu, position);
            }
        }
        let create = (StateEventType::RoomCreate, String::new());
        match state.map.contains_key(&create) {
            true => Ok(Given { state, is_whole }),
            false => Err(EngineError::not_found(format!(
                "the state at {id} can't be had: what was given has no create event"
            ))),
        }
    }
}

/// The create event, where the room is named after it and events don't name it.
pub(super) fn create_event_id(room: &Room) -> Option<OwnedEventId> {
    if !room.version().room_id_is_create_event() {
        return None;
    }
    EventId::parse(room.id().as_str().replacen('!', "$", 1)).ok()
}

/// Reads events of a room; what is none is left out.
pub(super) fn read_all(room: &Room, events: &[RawPdu]) -> Vec<Unverified> {
    let mut read = Vec::with_capacity(events.len());
    for event in events.iter().take(MAX_STATE) {
        match Unverified::read(event.get(), room.id(), room.version()) {
            Ok(event) => read.push(event),
            Err(error) => tracing::debug!(room = %room.id(), %error, "an event is dropped"),
        }
    }
    read
}

/// Judges events by those that allow them. `known` are those of them that are stored.
pub(super) fn judge(
    room: &Room,
    mut incoming: HashMap<OwnedEventId, Incoming>,
    known: &mut Known,
) -> Vec<(Incoming, Standing)> {
    let mut judged = Vec::with_capacity(incoming.len());
    let create = create_event_id(room);
    for id in in_order(&incoming, create.as_ref()) {
        let Some(event) = incoming.remove(&id) else {
            continue;
        };
        let fields = &event.pdu.fields;
        if !fields
            .auth_events
            .iter()
            .all(|auth| known.contains_key(auth))
        {
            tracing::debug!(room = %room.id(), event = %id, "an event is dropped: what allows it isn't known");
            continue;
        }
        let standing = match check_by_auth_events(&event.pdu, room.version(), known) {
            Ok(()) => Standing::Known,
            Err(reason) => {
                tracing::debug!(room = %room.id(), event = %id, reason, "an event is rejected");
                Standing::Rejected
            }
        };
        let row = parley_storage::federation::KnownEvent {
            position: 0,
            room_nid: room.nid(),
            event_id: id.clone(),
            standing,
            snapshot: None,
            depth: 0,
            json: event.json.clone(),
        };
        known.insert(id, row);
        judged.push((event, standing));
    }
    judged
}

/// The ids of events, each after those that allow it. Events that allow each other in a circle, which a hash forbids but
/// ids that servers choose don't, come in some order, and the later are dropped for what they lack.
///
/// Where a room is named after its create event, `create`, that allows all others without being named.
fn in_order(
    events: &HashMap<OwnedEventId, Incoming>,
    create: Option<&OwnedEventId>,
) -> Vec<OwnedEventId> {
    let mut order = Vec::with_capacity(events.len());
    let mut seen: HashSet<&OwnedEventId> = HashSet::new();
    for start in create.into_iter().chain(events.keys()) {
        let mut stack = vec![(start, false)];
        while let Some((id, is_done)) = stack.pop() {
            let Some(event) = events.get(id) else {
                continue;
            };
            if is_done {
                order.push(id.clone());
            } else if seen.insert(id) {
                stack.push((id, true));
                stack.extend(
                    event
                        .pdu
                        .fields
                        .auth_events
                        .iter()
                        .map(|auth| (auth, false)),
                );
            }
        }
    }
    order
}
