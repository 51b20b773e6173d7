//! State resolution: what a room's state is where its graph has forked.
//!
//! The algorithm is ruma's; here it gets what it asks for: auth chains, and since version 12 the subgraph of what is
//! in conflict. That of version 1 is [`first`], and what owned state adds is in [`owned`].
//!
//! <https://spec.matrix.org/v1.19/rooms/v2/#state-resolution>, <https://spec.matrix.org/v1.19/rooms/v12/#state-resolution>

mod first;
mod owned;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId, room_version_rules::StateResolutionVersion, state_res};

use crate::{Pdu, RoomVersion};

/// A room's state: the event in each of its places.
pub type StateMap = state_res::StateMap<OwnedEventId>;

/// A set of ids of events.
pub type EventIdSet = state_res::utils::event_id_set::EventIdSet<OwnedEventId>;

/// Events by their ids.
pub type EventMap = HashMap<OwnedEventId, Arc<Pdu>>;

/// Why a state can't be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolutionError {
    /// The version's algorithm isn't known.
    #[error("state of rooms of version {0} can't be resolved")]
    Version(String),
    /// The algorithm found something that can't be.
    #[error("state can't be resolved: {0}")]
    Failed(String),
}

/// The events of which some states differ, in one place at least: what is to be known, with all that allows it, before
/// they can be resolved.
fn conflicted(states: &[StateMap]) -> HashSet<OwnedEventId> {
    let mut found = HashSet::new();
    for state in states {
        for (place, event_id) in state {
            let same = |other: &StateMap| other.get(place) == Some(event_id);
            if !states.iter().all(same) {
                found.insert(event_id.clone());
            }
        }
    }
    found
}

/// Resolves states. `events` holds all that are in them, and all that allow those.
///
/// # Errors
/// If the version's algorithm isn't known, or the events make no sense together.
pub fn resolve(
    version: &RoomVersion,
    states: &[StateMap],
    events: &EventMap,
) -> Result<StateMap, ResolutionError> {
    let chains = states
        .iter()
        .map(|state| auth_chain(state.values(), events))
        .collect();
    resolve_with(version, states, chains, events)
}

/// The same where it's known what allows each of the states, or at least in what that differs: what allows all of them may
/// be left out. `events` holds what is in conflict, what allows some states and not others, the state that isn't in conflict
/// as far as it decides on those, and all that allows any of them.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_with(
    version: &RoomVersion,
    states: &[StateMap],
    chains: Vec<EventIdSet>,
    events: &EventMap,
) -> Result<StateMap, ResolutionError> {
    if version.rules().state_res == StateResolutionVersion::V1 {
        return Ok(first::resolve(version, states, events));
    }
    if version.has_owned_state() {
        return owned::resolve(version, states, chains, events);
    }
    let fetch = |id: &EventId| events.get(id).map(|pdu| pdu.as_ref().clone());
    resolve_by(version, states, chains, events, fetch)
}

/// The algorithm of ruma, with events as `fetch` gives them.
fn resolve_by(
    version: &RoomVersion,
    states: &[StateMap],
    chains: Vec<EventIdSet>,
    events: &EventMap,
    fetch: impl Fn(&EventId) -> Option<Pdu>,
) -> Result<StateMap, ResolutionError> {
    let rules = version.rules();
    let Some(state_rules) = rules.state_res.v2_rules() else {
        return Err(ResolutionError::Version(version.id().to_string()));
    };
    let subgraph = |conflicted: &state_res::StateMap<Vec<OwnedEventId>>| {
        Some(subgraph(conflicted.values().flatten(), events))
    };
    state_res::resolve(
        &rules.authorization,
        state_rules,
        states,
        chains,
        fetch,
        subgraph,
    )
    .map_err(|error| ResolutionError::Failed(error.to_string()))
}

/// Everything that allows some events, and what allows that, without the events themselves unless they allow others.
fn auth_chain<'a>(ids: impl Iterator<Item = &'a OwnedEventId>, events: &'a EventMap) -> EventIdSet {
    let mut seen: HashSet<&EventId> = HashSet::new();
    let mut chain = EventIdSet::new();
    let mut pending: Vec<&OwnedEventId> = ids.collect();
    while let Some(id) = pending.pop() {
        let Some(pdu) = events.get(id) else { continue };
        for auth in &pdu.fields.auth_events {
            if seen.insert(auth) {
                chain.insert(auth.clone());
                pending.push(auth);
            }
        }
    }
    chain
}

/// The events on the ways from one event of a set to another, along what allows them, ends included.
fn subgraph<'a>(
    conflicted: impl Iterator<Item = &'a OwnedEventId>,
    events: &EventMap,
) -> EventIdSet {
    let conflicted: HashSet<&OwnedEventId> = conflicted.collect();
    // Whether a way leads from an event to one of the set.
    let mut leads: HashMap<&EventId, bool> = HashMap::new();
    for start in &conflicted {
        // Depth first, without recursion, whose depth others would decide on. An event is decided on when all that
        // allow it are.
        let mut stack: Vec<(&OwnedEventId, bool)> = vec![(start, false)];
        while let Some((id, expanded)) = stack.pop() {
            let auth_events: &[OwnedEventId] = match events.get(id) {
                Some(pdu) => &pdu.fields.auth_events,
                None => &[],
            };
            if expanded {
                let any = auth_events
                    .iter()
                    .any(|auth| leads.get(auth.as_ref() as &EventId) == Some(&true));
                leads.insert(id, any || conflicted.contains(id));
            } else if !leads.contains_key(id.as_ref() as &EventId) {
                // Until it is decided on: a graph with a cycle, which can't be, would not end else.
                leads.insert(id, conflicted.contains(id));
                stack.push((id, true));
                stack.extend(auth_events.iter().map(|auth| (auth, false)));
            }
        }
    }
    let mut set = EventIdSet::new();
    for (id, _) in leads.into_iter().filter(|(_, leads)| *leads) {
        set.insert(id.to_owned());
    }
    set
}
