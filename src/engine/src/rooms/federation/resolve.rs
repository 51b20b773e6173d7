//! States of a room where its graph forks.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parley_protocol::{
    Pdu, StateEvent, auth,
    resolution::{EventIdSet, EventMap, StateMap, resolve_with},
};
use parley_storage::{
    commit::{Assigned, Standing},
    federation::KnownEvent,
};
use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};
use ruma::{OwnedEventId, events::StateEventType};

use super::auth_graph::AuthGraphs;
use crate::{
    EngineError, Result,
    compute::compute,
    rooms::{
        Rooms,
        edit::received::{CurrentChange, CurrentStands, DerivedState, PlaceChange, Stands},
        room::Room,
        state::{RoomState, StateEntry},
    },
    stream::committer::NotCommitted,
};

/// Events that are read at once.
const BATCH: usize = 1_000;
/// How long, and how often, it is waited for a state that is being stored.
const UNTIL_STORED: Duration = Duration::from_millis(2);
const UNTIL_STORED_ATTEMPTS: usize = 100;

/// Places of states that are kept, of about 400 bytes each.
const MAX_KEPT: u64 = 60_000;

/// A place of a state: type and state key.
type Place = (StateEventType, String);

/// What is kept of resolutions.
#[derive(Debug)]
pub(crate) struct Resolutions {
    graphs: AuthGraphs,
    /// Stored states, by the snapshot.
    states: States<i64>,
    /// What states are resolved to, by their snapshots in order.
    results: States<Vec<i64>>,
    /// How often states had got what they lacked when these were read.
    completions: AtomicU64,
}

/// States, as many as fit.
type States<K> = Cache<K, Arc<IdState>, ByPlaces>;

#[derive(Clone, Debug)]
struct ByPlaces;

impl<K> Weighter<K, Arc<IdState>> for ByPlaces {
    fn weight(&self, _: &K, state: &Arc<IdState>) -> u64 {
        state.map.len() as u64 + 1
    }
}

impl Default for Resolutions {
    fn default() -> Self {
        Self {
            graphs: AuthGraphs::default(),
            states: room_for_states(),
            results: room_for_states(),
            completions: AtomicU64::new(0),
        }
    }
}

/// In one shard: of several, none would be large enough for the state of a large room.
fn room_for_states<K: Eq + Hash>() -> States<K> {
    const STATES: usize = 1_000;
    let options = OptionsBuilder::new()
        .shards(1)
        .estimated_items_capacity(STATES)
        .weight_capacity(MAX_KEPT)
        .build()
        .expect("the capacities are given");
    Cache::with_options(
        options,
        ByPlaces,
        DefaultHashBuilder::default(),
        DefaultLifecycle::default(),
    )
}

impl Resolutions {
    /// Forgets states that have got what they lacked since they were read.
    fn renew(&self, completions: u64) {
        if self.completions.swap(completions, Ordering::AcqRel) != completions {
            self.states.clear();
            self.results.clear();
        }
    }
}

/// A state of a room by the ids of its events, with where those are stored.
#[derive(Clone, Debug, Default)]
pub(super) struct IdState {
    pub(super) map: StateMap,
    pub(super) positions: HashMap<OwnedEventId, Assigned>,
}

/// The state before an event.
#[derive(Clone, Debug)]
pub(super) struct StateBefore {
    /// The snapshot that it is, or is nearest to.
    pub(super) base: i64,
    /// All of it, where it is none of the snapshots.
    pub(super) resolved: Option<ResolvedState>,
}

/// A state that isn't stored.
#[derive(Clone, Debug)]
pub(super) struct ResolvedState {
    pub(super) state: IdState,
    /// What it changes over the base.
    pub(super) changes: Vec<PlaceChange>,
}

impl IdState {
    /// The current state of a room.
    pub(super) fn of_room(state: &RoomState) -> Self {
        let mut ids = Self::default();
        for entry in state.entries() {
            let event = &entry.event;
            let place = place(&event.event_type.to_string(), &event.state_key);
            ids.map.insert(place, event.event_id.clone());
            ids.positions
                .insert(event.event_id.clone(), entry.position.clone());
        }
        ids
    }

    /// The state of some events, with where they are stored.
    pub(super) fn of_events(events: &[(Arc<StateEvent>, i64)]) -> Self {
        let mut ids = Self::default();
        for (event, position) in events {
            let place = place(&event.event_type.to_string(), &event.state_key);
            ids.map.insert(place, event.event_id.clone());
            ids.positions
                .insert(event.event_id.clone(), Assigned::known(*position));
        }
        ids
    }

    /// The state after one more event.
    pub(super) fn put(&mut self, pdu: &Pdu, position: Assigned) {
        if let Some(state_key) = &pdu.fields.state_key {
            let place = place(&pdu.fields.event_type.to_string(), state_key);
            self.set(place, Some((pdu.event_id.clone(), position)));
        }
    }

    /// Has an event stand in a place, or nothing.
    fn set(&mut self, place: Place, stands: Option<(OwnedEventId, Assigned)>) {
        let before = match stands {
            Some((id, position)) => {
                self.positions.insert(id.clone(), position);
                let before = self.map.insert(place, id.clone());
                before.filter(|before| *before != id)
            }
            None => self.map.remove(&place),
        };
        if let Some(before) = before {
            self.positions.remove(&before);
        }
    }

    fn position(&self, event_id: &OwnedEventId) -> Option<Assigned> {
        self.positions.get(event_id).cloned()
    }

    /// The position of what stands in a place.
    pub(super) fn standing(&self, event_type: &str, state_key: &str) -> Option<Assigned> {
        self.position(self.map.get(&place(event_type, state_key))?)
    }
}

fn place(event_type: &str, state_key: &str) -> Place {
    (event_type.into(), state_key.to_owned())
}

/// The places in which one state differs from another, with what stands there in it.
fn differences<'a>(
    from: &'a StateMap,
    to: &'a StateMap,
) -> impl Iterator<Item = (&'a (StateEventType, String), Option<&'a OwnedEventId>)> {
    let changed = to
        .iter()
        .filter(|(place, id)| from.get(*place) != Some(id))
        .map(|(place, id)| (place, Some(id)));
    let gone = from.keys().filter(|place| !to.contains_key(*place));
    changed.chain(gone.map(|place| (place, None)))
}

/// A stored event as the rules look at it.
pub(super) fn pdu_of(event: &KnownEvent) -> Option<Pdu> {
    let mut pdu = Pdu::parse(event.event_id.clone(), &event.json).ok()?;
    pdu.rejected = event.standing == Standing::Rejected;
    Some(pdu)
}

impl Rooms {
    /// A stored state.
    pub(super) async fn id_state(&self, snapshot: i64) -> Result<Arc<IdState>> {
        self.resolutions.renew(self.registry.completions());
        if let Some(state) = self.resolutions.states.get(&snapshot) {
            return Ok(state);
        }
        let chain = self.stored_chain(snapshot).await?;
        let (base, state) = match self.nearest_kept(&chain) {
            Some(kept) => kept,
            // The other side of a fork has the one before in common with it, more often than not.
            None => {
                let base = chain.get(1).map_or(snapshot, |(parent, _)| *parent);
                (base, self.read_id_state(base).await?)
            }
        };
        if base == snapshot {
            return Ok(state);
        }
        // Most of a large room's state is as it was.
        let mut ids = Arc::unwrap_or_clone(state);
        for row in self.database.state_changes(snapshot, base).await? {
            let stands = row.event.map(|(at, id)| (id, Assigned::known(at)));
            ids.set(place(&row.event_type, &row.state_key), stands);
        }
        let state = Arc::new(ids);
        self.resolutions.states.insert(snapshot, Arc::clone(&state));
        Ok(state)
    }

    /// All of a stored state.
    async fn read_id_state(&self, snapshot: i64) -> Result<Arc<IdState>> {
        let mut ids = IdState::default();
        for row in self.database.state_entries(snapshot).await? {
            let stands = Some((row.event_id, Assigned::known(row.position)));
            ids.set(place(&row.event_type, &row.state_key), stands);
        }
        let state = Arc::new(ids);
        self.resolutions.states.insert(snapshot, Arc::clone(&state));
        Ok(state)
    }

    /// The snapshots that one is read through, the newest first, which is itself.
    async fn stored_chain(&self, snapshot: i64) -> Result<Vec<(i64, i64)>> {
        for _ in 0..UNTIL_STORED_ATTEMPTS {
            let chain = self.database.snapshot_chain(snapshot).await?;
            if !chain.is_empty() {
                return Ok(chain);
            }
            // A snapshot has its number a moment before it is stored.
            tokio::time::sleep(UNTIL_STORED).await;
        }
        Err(NotCommitted::Rebuild.into())
    }

    /// The newest state of a chain that is kept.
    fn nearest_kept(&self, chain: &[(i64, i64)]) -> Option<(i64, Arc<IdState>)> {
        chain.iter().find_map(|(snapshot, _)| {
            let state = self.resolutions.states.get(snapshot)?;
            Some((*snapshot, state))
        })
    }

    /// The state that several snapshots are resolved to.
    ///
    /// # Errors
    /// If the room's version has no algorithm for it.
    pub(super) async fn state_before(
        &self,
        room: &Room,
        snapshots: &HashSet<i64>,
    ) -> Result<StateBefore> {
        let base = snapshots.iter().copied().max().unwrap_or_default();
        if snapshots.len() <= 1 {
            let resolved = None;
            return Ok(StateBefore { base, resolved });
        }
        let mut key: Vec<i64> = snapshots.iter().copied().collect();
        key.sort_unstable();
        self.resolutions.renew(self.registry.completions());
        let state = match self.resolutions.results.get(&key) {
            Some(state) => state,
            None => {
                let mut states = Vec::with_capacity(key.len());
                for snapshot in &key {
                    states.push(self.id_state(*snapshot).await?);
                }
                let state = Arc::new(self.resolve(room, states, None).await?);
                self.resolutions.results.insert(key, Arc::clone(&state));
                state
            }
        };
        let of_base = self.id_state(base).await?;
        Ok(before_over(base, &of_base.map, state.as_ref().clone()))
    }

    /// Resolves states. `itself` is an event in them that isn't stored.
    pub(super) async fn resolve(
        &self,
        room: &Room,
        states: Vec<Arc<IdState>>,
        itself: Option<&Pdu>,
    ) -> Result<IdState> {
        let mut distinct: Vec<Arc<IdState>> = Vec::with_capacity(states.len());
        for state in states {
            if distinct.iter().all(|other| other.map != state.map) {
                distinct.push(state);
            }
        }
        let [first, _, ..] = distinct.as_slice() else {
            return Ok(distinct
                .pop()
                .map_or_else(IdState::default, Arc::unwrap_or_clone));
        };
        metrics::counter!("parley_state_resolutions_total").increment(1);
        let conflict = Conflict::of(&distinct);
        let graphs = &self.resolutions.graphs;
        let chains = graphs
            .differences(&self.database, room.nid(), &conflict, itself)
            .await?;
        let (events, deciding, found) = self
            .needed_events(room, &distinct, &conflict, &chains, itself)
            .await?;
        // The rest of the members, of whom there may be many, have no part in it.
        let parts = distinct
            .iter()
            .map(|state| conflict.part_of(state, &deciding))
            .collect::<Vec<_>>();
        let version = room.version().clone();
        let resolve = move || resolve_with(&version, &parts, chains, &events);
        let resolved = compute(resolve)
            .await?
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        let mut state = first.as_ref().clone();
        for place in &conflict.places {
            state.set((*place).clone(), None);
        }
        for (place, id) in resolved
            .into_iter()
            .filter(|(place, _)| conflict.places.contains(place))
        {
            // The resolution may bring back what stands in none of the states.
            let position = distinct.iter().find_map(|state| state.position(&id));
            let position = position.or_else(|| found.get(&id).copied().map(Assigned::known));
            let position = position.ok_or_else(|| lost(&id))?;
            state.set(place, Some((id, position)));
        }
        Ok(state)
    }

    /// The events that a resolution looks at: what is in conflict, what allows some of the states and not others, and what of
    /// the rest of the state decides on those; with the places in which members decide, and where the events are stored.
    async fn needed_events(
        &self,
        room: &Room,
        states: &[Arc<IdState>],
        conflict: &Conflict<'_>,
        chains: &[EventIdSet],
        itself: Option<&Pdu>,
    ) -> Result<(EventMap, HashSet<Place>, HashMap<OwnedEventId, i64>)> {
        let conflicted = conflict.own.iter().flatten();
        let mut ids: HashSet<OwnedEventId> = conflicted.map(|id| (*id).clone()).collect();
        ids.extend(chains.iter().flat_map(|chain| chain.iter().cloned()));
        ids.extend(
            itself
                .iter()
                .flat_map(|pdu| pdu.fields.auth_events.iter().cloned()),
        );
        // All of the rest but the members.
        let first = states.first().into_iter().flat_map(|state| &state.map);
        let others = first.filter(|(place, _)| !is_member(place));
        ids.extend(others.map(|(_, id)| id.clone()));
        let (mut events, mut found) = self.with_auth_chain(ids).await?;
        if let Some(pdu) = itself {
            events.insert(pdu.event_id.clone(), Arc::new(pdu.clone()));
        }
        let deciding = deciding_places(room, &events);
        let members: HashSet<OwnedEventId> = deciding
            .iter()
            .flat_map(|place| states.iter().filter_map(|state| state.map.get(place)))
            .filter(|id| !events.contains_key(*id))
            .cloned()
            .collect();
        let (members, found_members) = self.with_auth_chain(members).await?;
        events.extend(members);
        found.extend(found_members);
        Ok((events, deciding, found))
    }

    /// Stored events with all that allows them, and where they are stored.
    pub(super) async fn with_auth_chain(
        &self,
        ids: HashSet<OwnedEventId>,
    ) -> Result<(EventMap, HashMap<OwnedEventId, i64>)> {
        let mut events = EventMap::new();
        let mut positions = HashMap::new();
        let mut asked = ids.clone();
        let mut pending: Vec<OwnedEventId> = ids.into_iter().collect();
        while !pending.is_empty() {
            let batch: Vec<OwnedEventId> = pending.split_off(pending.len().saturating_sub(BATCH));
            for (id, known) in self.database.known_events(&batch).await? {
                let Some(pdu) = pdu_of(&known) else { continue };
                for auth in &pdu.fields.auth_events {
                    if asked.insert(auth.clone()) {
                        pending.push(auth.clone());
                    }
                }
                positions.insert(id.clone(), known.position);
                events.insert(id, Arc::new(pdu));
            }
        }
        Ok((events, positions))
    }

    /// What changes of a room's current state where it becomes `to`. `itself` is the event by which it does.
    pub(super) async fn current_changes(
        &self,
        from: &StateMap,
        to: &IdState,
        itself: &OwnedEventId,
    ) -> Result<Vec<CurrentChange>> {
        let differing: Vec<_> = differences(from, &to.map).collect();
        let wanted: Vec<OwnedEventId> = differing
            .iter()
            .filter_map(|(_, id)| *id)
            .filter(|id| *id != itself)
            .cloned()
            .collect();
        let known = self.database.known_events(&wanted).await?;
        let mut changes = Vec::with_capacity(differing.len());
        for ((event_type, state_key), id) in differing {
            let stands = match id {
                None => CurrentStands::Nothing,
                Some(id) if id == itself => CurrentStands::Itself,
                Some(id) => match known.get(id).and_then(entry_of) {
                    Some(entry) => CurrentStands::Other(entry),
                    None => return Err(lost(id)),
                },
            };
            changes.push(CurrentChange {
                event_type: event_type.to_string(),
                state_key: state_key.clone(),
                stands,
            });
        }
        Ok(changes)
    }

    /// The state after an event that changes nothing.
    pub(super) async fn unchanged(&self, before: &StateBefore) -> Result<DerivedState> {
        let resolved = before.resolved.as_ref();
        Ok(DerivedState {
            chain: self.chain_of(before.base).await?,
            changes: resolved
                .map(|state| state.changes.clone())
                .unwrap_or_default(),
        })
    }

    /// The chain of a stored state.
    pub(super) async fn chain_of(&self, snapshot: i64) -> Result<Vec<(i64, Assigned)>> {
        let chain = self.database.snapshot_chain(snapshot).await?;
        Ok(chain
            .into_iter()
            .rev()
            .map(|(position, height)| (height, Assigned::known(position)))
            .collect())
    }

    /// The state after an event with that state before it.
    pub(super) async fn state_after(
        &self,
        before: &StateBefore,
        pdu: &Pdu,
    ) -> Result<DerivedState> {
        let mut after = self.unchanged(before).await?;
        if let Some(state_key) = &pdu.fields.state_key {
            let event_type = pdu.fields.event_type.to_string();
            after
                .changes
                .retain(|change| change.event_type != event_type || change.state_key != *state_key);
            after.changes.push(PlaceChange {
                event_type,
                state_key: state_key.clone(),
                stands: Stands::Itself,
            });
        }
        Ok(after)
    }
}

/// The places that decide on some events.
fn deciding_places(room: &Room, events: &EventMap) -> HashSet<Place> {
    let mut places = HashSet::new();
    for pdu in events.values() {
        let fields = &pdu.fields;
        let deciding = auth::deciding_state(
            &fields.event_type,
            &fields.sender,
            fields.state_key.as_deref(),
            &fields.content,
            room.version(),
        );
        places.extend(deciding.unwrap_or_default());
    }
    places
}

fn is_member((event_type, _): &Place) -> bool {
    *event_type == StateEventType::RoomMember
}

/// Where some states differ, and where they don't.
#[derive(Debug)]
pub(super) struct Conflict<'a> {
    /// The places in which they differ.
    places: HashSet<&'a Place>,
    /// The events that stand in the same places of all states.
    pub(super) common: Vec<&'a OwnedEventId>,
    /// For each state, the events that stand in other places, or not in all states.
    pub(super) own: Vec<Vec<&'a OwnedEventId>>,
}

impl<'a> Conflict<'a> {
    fn of(states: &'a [Arc<IdState>]) -> Self {
        let (mut places, mut common) = (HashSet::new(), Vec::new());
        let Some((first, rest)) = states.split_first() else {
            return Self {
                places,
                common,
                own: Vec::new(),
            };
        };
        for (place, id) in &first.map {
            match rest.iter().all(|state| state.map.get(place) == Some(id)) {
                true => common.push(id),
                false => _ = places.insert(place),
            }
        }
        for state in rest {
            places.extend(
                state
                    .map
                    .keys()
                    .filter(|place| !first.map.contains_key(*place)),
            );
        }
        let own_of = |state: &'a Arc<IdState>| {
            let own = places.iter().filter_map(|place| state.map.get(*place));
            own.collect()
        };
        let own = states.iter().map(own_of).collect();
        Self {
            places,
            common,
            own,
        }
    }

    /// What of a state is in conflict or may decide on that: all but the other members.
    fn part_of(&self, state: &IdState, deciding: &HashSet<Place>) -> StateMap {
        let is_part = |place: &Place| {
            !is_member(place) || self.places.contains(place) || deciding.contains(place)
        };
        let part = state.map.iter().filter(|(place, _)| is_part(place));
        part.map(|(place, id)| (place.clone(), id.clone()))
            .collect()
    }
}

/// A state, as what it changes over a snapshot.
pub(super) fn before_over(base: i64, of_base: &StateMap, state: IdState) -> StateBefore {
    let changes = differences(of_base, &state.map)
        .map(|((event_type, state_key), id)| PlaceChange {
            event_type: event_type.to_string(),
            state_key: state_key.clone(),
            stands: id
                .and_then(|id| state.position(id))
                .map_or(Stands::Nothing, Stands::Other),
        })
        .collect();
    StateBefore {
        base,
        resolved: Some(ResolvedState { state, changes }),
    }
}

fn entry_of(event: &KnownEvent) -> Option<StateEntry> {
    Some(StateEntry {
        event: Arc::new(StateEvent::parse(event.event_id.clone(), &event.json)?),
        position: Assigned::known(event.position),
    })
}

fn lost(id: &OwnedEventId) -> EngineError {
    EngineError::Internal(format!("the event {id} of a state is not stored"))
}
