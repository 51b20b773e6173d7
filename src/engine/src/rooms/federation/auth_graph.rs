//! What allows what, in memory: the ids of events and of those that allow them.
//!
//! A resolution needs to know which events allow a state but not another, of states with tens of thousands of events. What
//! allows an event never changes, and without what the events say it is small; so it is read once and kept.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use parley_protocol::{Pdu, resolution::EventIdSet};
use parley_storage::Database;
use ruma::OwnedEventId;

use super::resolve::Conflict;
use crate::Result;

/// Events that are read at once.
const BATCH: usize = 1_000;
/// Events of all rooms that are kept, of about 200 bytes each. If there are more, all are forgotten.
const MAX_KEPT: usize = 200_000;

/// The graphs of rooms.
#[derive(Debug, Default)]
pub(crate) struct AuthGraphs(Mutex<HashMap<i64, Arc<AuthGraph>>>);

/// The graph of one room.
#[derive(Debug, Default)]
struct AuthGraph(Mutex<Graph>);

#[derive(Debug, Default)]
struct Graph {
    numbers: HashMap<OwnedEventId, usize>,
    ids: Vec<OwnedEventId>,
    /// By the event's number, those that allow it; `None` if it isn't stored, or wasn't read.
    auth: Vec<Option<Box<[usize]>>>,
}

impl AuthGraphs {
    /// For each of some states the events that allow it, without those that allow all of them. `itself` is an event in them
    /// that isn't stored.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn differences(
        &self,
        database: &Database,
        room_nid: i64,
        conflict: &Conflict<'_>,
        itself: Option<&Pdu>,
    ) -> Result<Vec<EventIdSet>> {
        let graph = self.of(room_nid);
        let mut pending = graph.lock().unread(conflict, itself);
        while !pending.is_empty() {
            let batch = pending.split_off(pending.len().saturating_sub(BATCH));
            let known = database.known_events(&batch).await?;
            let mut graph = graph.lock();
            for (id, event) in known {
                if let Ok(pdu) = Pdu::parse(id, &event.json) {
                    pending.extend(graph.add(pdu.event_id, &pdu.fields.auth_events));
                }
            }
        }
        let differences = graph.lock().differences(conflict, itself);
        Ok(differences)
    }

    fn of(&self, room_nid: i64) -> Arc<AuthGraph> {
        let mut graphs = lock(&self.0);
        let kept: usize = graphs.values().map(|graph| graph.lock().ids.len()).sum();
        if kept > MAX_KEPT {
            graphs.clear();
        }
        Arc::clone(graphs.entry(room_nid).or_default())
    }
}

impl AuthGraph {
    fn lock(&self) -> MutexGuard<'_, Graph> {
        lock(&self.0)
    }
}

impl Graph {
    fn number(&mut self, id: &OwnedEventId) -> usize {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        let number = self.ids.len();
        self.numbers.insert(id.clone(), number);
        self.ids.push(id.clone());
        self.auth.push(None);
        number
    }

    /// Takes in what allows an event, and gives what of that isn't read.
    fn add(&mut self, id: OwnedEventId, auth_events: &[OwnedEventId]) -> Vec<OwnedEventId> {
        let own = self.number(&id);
        let mut fresh = Vec::new();
        let mut auth = Vec::with_capacity(auth_events.len());
        for id in auth_events {
            if !self.numbers.contains_key(id) {
                fresh.push(id.clone());
            }
            auth.push(self.number(id));
        }
        if let Some(place) = self.auth.get_mut(own) {
            *place = Some(auth.into());
        }
        fresh
    }

    /// The events of states, and what allows them, as far as that isn't read.
    fn unread(&mut self, conflict: &Conflict<'_>, itself: Option<&Pdu>) -> Vec<OwnedEventId> {
        if let Some(pdu) = itself {
            self.add(pdu.event_id.clone(), &pdu.fields.auth_events);
        }
        let mut seen = vec![false; self.ids.len()];
        let mut pending: Vec<usize> = Vec::new();
        for id in conflict.common.iter().chain(conflict.own.iter().flatten()) {
            pending.push(self.number(id));
        }
        let mut unread = Vec::new();
        while let Some(number) = pending.pop() {
            seen.resize(self.ids.len().max(seen.len()), false);
            if std::mem::replace(&mut seen[number], true) {
                continue;
            }
            match &self.auth[number] {
                Some(auth) => pending.extend(auth),
                None => unread.push(self.ids[number].clone()),
            }
        }
        unread
    }

    fn differences(&mut self, conflict: &Conflict<'_>, itself: Option<&Pdu>) -> Vec<EventIdSet> {
        // What allows the events that all states have allows all states.
        let common = self.chain(&conflict.common);
        let chains = conflict.own.iter().map(|own| self.chain(own));
        let chains: Vec<Vec<bool>> = chains.collect();
        if let Some(pdu) = itself {
            // It may never be stored, and in old rooms another may have its id.
            let number = self.number(&pdu.event_id);
            self.auth[number] = None;
        }
        let differs = |number: &usize| {
            let in_chain = |chain: &Vec<bool>| chain[*number];
            !common[*number] && chains.iter().any(in_chain) && !chains.iter().all(in_chain)
        };
        let differing: Vec<usize> = (0..self.ids.len()).filter(differs).collect();
        let of_chain = |chain: &Vec<bool>| {
            let numbers = differing.iter().filter(|number| chain[**number]);
            let mut set = EventIdSet::new();
            for number in numbers {
                set.insert(self.ids[*number].clone());
            }
            set
        };
        chains.iter().map(of_chain).collect()
    }

    /// By their numbers, which events allow some others, or allow what allows them.
    fn chain(&mut self, ids: &[&OwnedEventId]) -> Vec<bool> {
        let starts: Vec<usize> = ids.iter().map(|id| self.number(id)).collect();
        let mut chain = vec![false; self.ids.len()];
        let mut pending: Vec<usize> = Vec::new();
        for start in starts {
            pending.extend(self.auth[start].iter().flat_map(|auth| auth.iter()));
        }
        while let Some(number) = pending.pop() {
            if !std::mem::replace(&mut chain[number], true) {
                pending.extend(self.auth[number].iter().flat_map(|auth| auth.iter()));
            }
        }
        chain
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
