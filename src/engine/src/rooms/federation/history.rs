//! Reading the past of a room from the servers in it, where this server's own begins only later.
//!
//! What is read gets places before everything that is stored, the newest first: positions below those of the stream, so
//! that /messages reads on into the past, and /sync never tells of it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parley_protocol::Incoming;
use parley_storage::{
    commit::{Assigned, Standing},
    events::Span,
};
use ruma::{OwnedEventId, OwnedServerName, ServerName};

use super::{
    missing::{judge, read_all},
    receive::Known,
    redact::Deciding,
    resolve::IdState,
};
use crate::{
    EngineError, Result,
    rooms::{
        Rooms,
        edit::received::{DerivedState, PastEvent},
        room::Room,
    },
};

/// Events that are asked for at once.
const CHUNK: u64 = 100;
/// Servers that are asked for the same.
const MAX_SERVERS: usize = 5;
/// The oldest events that are looked at for what came before them.
const OLDEST: i64 = 20;

/// A stretch of the past, the oldest event first.
#[derive(Clone, Debug)]
pub(in crate::rooms) struct Past {
    /// The state before the oldest.
    pub(in crate::rooms) before: DerivedState,
    /// What stood, before the oldest, in the places that the events take: by type and state key, the event's position.
    pub(in crate::rooms) standing: HashMap<(String, String), Assigned>,
    /// The events, and what redactions have to do with them.
    pub(in crate::rooms) events: Vec<PastEvent>,
}

impl Rooms {
    /// Reads a stretch of what came before everything that is stored of a room, or is missing in between. Whether there is
    /// more now.
    ///
    /// # Errors
    /// If the database fails. Where nobody answers, there is just nothing more.
    pub(in crate::rooms) async fn read_past(&self, room: &Arc<Room>) -> Result<bool> {
        if self.outside.get().is_none() {
            return Ok(false);
        }
        let lock = self.reading_past.lock_of(room.id());
        let _one_at_a_time = lock.lock().await;
        let from = self.before_the_oldest(room).await?;
        if from.is_empty() {
            return Ok(false);
        }
        let state = self.registry.load(room).await?;
        if !self.is_in(&state) {
            return Ok(false);
        }
        let servers = self.servers_to_ask(room, &state);
        for server in servers.iter().take(MAX_SERVERS) {
            match self.past_by(room, server, &from).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(EngineError::Storage(error)) => return Err(error.into()),
                Err(error) => {
                    tracing::info!(room = %room.id(), %server, %error, "the past of a room can't be read");
                }
            }
        }
        Ok(false)
    }

    /// The events on which the oldest stored ones are built, or those behind gaps, and that aren't stored in the timeline.
    async fn before_the_oldest(&self, room: &Room) -> Result<Vec<OwnedEventId>> {
        let span = Span {
            room_nid: room.nid(),
            after: i64::MIN,
            to: i64::MAX,
        };
        let mut oldest = self.database.oldest_events(span, OLDEST).await?;
        let behind_gaps = self.database.events_after_gaps(room.nid(), OLDEST);
        oldest.extend(behind_gaps.await?);
        let mut before: Vec<OwnedEventId> = Vec::new();
        for row in oldest {
            let pdu = parley_protocol::Pdu::parse(row.event_id, &row.json);
            before.extend(pdu.map(|pdu| pdu.fields.prev_events).unwrap_or_default());
        }
        let mut missing = self.missing_among(room, before).await?;
        missing.truncate(OLDEST as usize);
        Ok(missing)
    }

    async fn past_by(
        &self,
        room: &Arc<Room>,
        server: &OwnedServerName,
        from: &[OwnedEventId],
    ) -> Result<bool> {
        let remote = self.outside.remote()?;
        let events = remote.backfill(server, room.id(), from, CHUNK).await?;
        let mut events = read_all(room, &events);
        events.truncate(CHUNK as usize);
        let ids: Vec<OwnedEventId> = events
            .iter()
            .map(|event| event.pdu.event_id.clone())
            .collect();
        let known = self.database.known_events(&ids).await?;
        events.retain(|event| {
            let known = known.get(&event.pdu.event_id);
            known.is_none_or(|known| {
                known.standing == Standing::Known && known.room_nid == room.nid()
            })
        });
        let states = known.into_iter();
        let states = states.filter_map(|(id, event)| Some((id, event.snapshot?)));
        let states: HashMap<OwnedEventId, i64> = states.collect();
        let verified = self.verify(events, room.version()).await?;
        let verified: Vec<Incoming> = verified.into_iter().filter_map(Result::ok).collect();
        let allowed = self.allowed_past(room, server, verified).await?;
        let Some(oldest) = allowed.first() else {
            return Ok(false);
        };
        let mut standing = HashMap::new();
        let mut deciding = Deciding::default();
        let before = match oldest.pdu.fields.prev_events.is_empty() {
            true => DerivedState {
                chain: Vec::new(),
                changes: Vec::new(),
            },
            false => {
                let given = self.fetch_state(room, server, &oldest.pdu.event_id, false);
                let state = given.await?.state;
                standing = standing_in(&state, &allowed);
                deciding = self.deciding_in(&state).await?;
                let before = self.over_current(room, state).await?;
                self.unchanged(&before).await?
            }
        };
        let past = Past {
            before,
            standing,
            events: self
                .redactions_in_past(room, allowed, &states, deciding)
                .await?,
        };
        let written = self
            .edit(room, |edit| {
                edit.add_past(past.clone());
                Ok(())
            })
            .await;
        match written {
            Ok(()) => Ok(true),
            // Another node has just read the same.
            Err(EngineError::Duplicate) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Those of some events that are allowed by what allows them, in the order of the room's graph.
    async fn allowed_past(
        &self,
        room: &Arc<Room>,
        server: &ServerName,
        events: Vec<Incoming>,
    ) -> Result<Vec<Incoming>> {
        let given: HashSet<OwnedEventId> = events
            .iter()
            .map(|event| event.pdu.event_id.clone())
            .collect();
        let mut needed: HashSet<OwnedEventId> = events
            .iter()
            .flat_map(|event| event.pdu.fields.auth_events.iter().cloned())
            .filter(|id| !given.contains(id))
            .collect();
        needed.extend(super::missing::create_event_id(room));
        let known = self.database.known_events(&needed).await?;
        let missing = needed
            .iter()
            .filter(|id| !known.contains_key(*id))
            .cloned()
            .collect();
        self.fetch_with_auth(room, server, missing).await?;
        let mut known: Known = self.known_of(room, &needed).await?;
        let incoming = events
            .into_iter()
            .map(|event| (event.pdu.event_id.clone(), event))
            .collect();
        let mut allowed: Vec<Incoming> = judge(room, incoming, &mut known)
            .into_iter()
            .filter(|(_, standing)| *standing == Standing::Known)
            .map(|(event, _)| event)
            .collect();
        // By depth, as servers do; where that is the same, by the id, so that all have one order.
        allowed.sort_by(|one, other| {
            let key = |event: &Incoming| (event.pdu.fields.depth, event.pdu.event_id.clone());
            key(one).cmp(&key(other))
        });
        Ok(allowed)
    }
}

/// What stands in a state in the places that some events take.
fn standing_in(state: &IdState, events: &[Incoming]) -> HashMap<(String, String), Assigned> {
    let standing = events.iter().filter_map(|event| {
        let fields = &event.pdu.fields;
        let (event_type, state_key) = (fields.event_type.to_string(), fields.state_key.clone()?);
        let position = state.standing(&event_type, &state_key)?;
        Some(((event_type, state_key), position))
    });
    standing.collect()
}
