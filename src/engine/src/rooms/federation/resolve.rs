//! States of a room where its graph forks.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parley_protocol::{
    Pdu, StateEvent, auth,
    resolution::{EventIdSet, EventMap, StateMap, conflicted, resolve_with},
};
use parley_storage::{
    commit::{Assigned, Standing},
    federation::KnownEvent,
};
use quick_cache::{Weighter, sync::Cache};
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
        const STATES: usize = 1_000;
        Self {
            graphs: AuthGraphs::default(),
            states: Cache::with_weighter(STATES, MAX_KEPT, ByPlaces),
            results: Cache::with_weighter(STATES, MAX_KEPT, ByPlaces),
            completions: AtomicU64::new(0),
        }
    }
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
            self.map.insert(place, pdu.event_id.clone());
            self.positions.insert(pdu.event_id.clone(), position);
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

fn place(event_type: &str, state_key: &str) -> (StateEventType, String) {
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
        let mut rows = self.database.state_entries(snapshot).await?;
        for _ in 0..UNTIL_STORED_ATTEMPTS {
            if !rows.is_empty() {
                break;
            }
            // A snapshot has its number a moment before it is stored. An empty state there is not.
            tokio::time::sleep(UNTIL_STORED).await;
            rows = self.database.state_entries(snapshot).await?;
        }
        if rows.is_empty() {
            return Err(NotCommitted::Rebuild.into());
        }
        let mut ids = IdState::default();
        for row in rows {
            ids.positions
                .insert(row.event_id.clone(), Assigned::known(row.position));
            ids.map
                .insert(place(&row.event_type, &row.state_key), row.event_id);
        }
        let state = Arc::new(ids);
        self.resolutions.states.insert(snapshot, Arc::clone(&state));
        Ok(state)
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
        let mut positions = HashMap::new();
        let mut maps: Vec<StateMap> = Vec::with_capacity(states.len());
        for state in states {
            let entries = state.positions.iter();
            positions.extend(entries.map(|(id, position)| (id.clone(), position.clone())));
            if !maps.contains(&state.map) {
                maps.push(state.map.clone());
            }
        }
        if maps.len() == 1 {
            let map = maps.pop().unwrap_or_default();
            return Ok(IdState { map, positions });
        }
        metrics::counter!("parley_state_resolutions_total").increment(1);
        let graphs = &self.resolutions.graphs;
        let chains = graphs
            .differences(&self.database, room.nid(), &maps, itself)
            .await?;
        let (events, found) = self.needed_events(room, &maps, &chains, itself).await?;
        let version = room.version().clone();
        let resolve = move || resolve_with(&version, &maps, chains, &events);
        let map = compute(resolve)
            .await?
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        // The resolution may bring back what stands in none of the states.
        for id in map.values() {
            if !positions.contains_key(id)
                && let Some(position) = found.get(id)
            {
                positions.insert(id.clone(), Assigned::known(*position));
            }
        }
        Ok(IdState { map, positions })
    }

    /// The events that a resolution looks at: what is in conflict, what allows some of the states and not others, and what of
    /// the rest of the state decides on those.
    async fn needed_events(
        &self,
        room: &Room,
        maps: &[StateMap],
        chains: &[EventIdSet],
        itself: Option<&Pdu>,
    ) -> Result<(EventMap, HashMap<OwnedEventId, i64>)> {
        let mut ids = conflicted(maps);
        ids.extend(chains.iter().flat_map(|chain| chain.iter().cloned()));
        ids.extend(
            itself
                .iter()
                .flat_map(|pdu| pdu.fields.auth_events.iter().cloned()),
        );
        // All of the rest but the members, of whom there may be many.
        let first = maps.first().into_iter().flatten();
        let others = first.filter(|((event_type, _), _)| *event_type != StateEventType::RoomMember);
        ids.extend(others.map(|(_, id)| id.clone()));
        let (mut events, mut found) = self.with_auth_chain(ids).await?;
        if let Some(pdu) = itself {
            events.insert(pdu.event_id.clone(), Arc::new(pdu.clone()));
        }
        let members: HashSet<OwnedEventId> = deciding_members(room, maps, &events);
        let (members, found_members) = self.with_auth_chain(members).await?;
        events.extend(members);
        found.extend(found_members);
        Ok((events, found))
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

/// The member events of states that decide on some events, as far as they aren't among those.
fn deciding_members(room: &Room, maps: &[StateMap], events: &EventMap) -> HashSet<OwnedEventId> {
    let mut members = HashSet::new();
    for pdu in events.values() {
        let fields = &pdu.fields;
        let deciding = auth::deciding_state(
            &fields.event_type,
            &fields.sender,
            fields.state_key.as_deref(),
            &fields.content,
            room.version(),
        );
        for place in deciding.unwrap_or_default() {
            let standing = maps.iter().filter_map(|map| map.get(&place));
            members.extend(standing.filter(|id| !events.contains_key(*id)).cloned());
        }
    }
    members
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
