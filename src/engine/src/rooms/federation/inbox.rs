//! What other servers send: stored before it is acknowledged, and worked through room by room, in order.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use parley_protocol::Unverified;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName};
use serde::Deserialize;

use crate::{EngineError, Result, remote::RawPdu, rooms::Rooms};

/// Events that a room's worker takes at once.
const BATCH: i64 = 50;
/// Events that may wait for a room. A server that sends more is told to come back.
const MAX_WAITING: i64 = 10_000;
/// Attempts at what fails for a reason that passes.
const ATTEMPTS: usize = 3;

/// The rooms whose inbox is being worked through.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<Workers>);

#[derive(Debug, Default)]
struct Workers {
    working: HashSet<OwnedRoomId>,
    /// Rooms in which something has arrived since their worker looked.
    again: HashSet<OwnedRoomId>,
}

impl Inbox {
    fn workers<T>(&self, use_them: impl FnOnce(&mut Workers) -> T) -> T {
        use_them(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that something has arrived. Whether a worker has to be started.
    fn arrived(&self, room_id: &RoomId) -> bool {
        self.workers(|workers| {
            if workers.working.insert(room_id.to_owned()) {
                return true;
            }
            workers.again.insert(room_id.to_owned());
            false
        })
    }

    /// Notes that a worker found nothing more. Whether it may end.
    fn finished(&self, room_id: &RoomId) -> bool {
        self.workers(|workers| {
            if workers.again.remove(room_id) {
                return false;
            }
            workers.working.remove(room_id);
            true
        })
    }
}

/// What became of an event that was sent: its id, and why it isn't taken if it isn't.
pub type Acknowledged = (OwnedEventId, Result<(), String>);

/// An event of a transaction that may be taken.
struct Sorted {
    room_id: OwnedRoomId,
    event_id: OwnedEventId,
    json: String,
}

impl Rooms {
    /// Takes the events of a transaction: stores them, and has them worked through.
    ///
    /// `PUT /_matrix/federation/v1/send/{txnId}`
    ///
    /// # Errors
    /// If they can't be stored; `M_LIMIT_EXCEEDED` if too many wait.
    pub async fn take_transaction(
        self: &Arc<Self>,
        origin: &ServerName,
        events: Vec<RawPdu>,
    ) -> Result<Vec<Acknowledged>> {
        let mut answers = Vec::with_capacity(events.len());
        let mut rooms: Vec<(OwnedRoomId, Vec<(OwnedEventId, String)>)> = Vec::new();
        for event in events {
            match self.sort(origin, &event).await {
                Ok(Sorted {
                    room_id,
                    event_id,
                    json,
                }) => {
                    answers.push((event_id.clone(), Ok(())));
                    match rooms.iter_mut().find(|(id, _)| *id == room_id) {
                        Some((_, events)) => events.push((event_id, json)),
                        None => rooms.push((room_id, vec![(event_id, json)])),
                    }
                }
                Err((Some(event_id), error)) => {
                    tracing::debug!(%origin, %event_id, %error, "an event is not taken");
                    answers.push((event_id, Err(error.to_string())));
                }
                // Without an id there is nothing to answer for.
                Err((None, error)) => tracing::debug!(%origin, %error, "an event is not taken"),
            }
        }
        for (room_id, events) in rooms {
            if self.database.inbox_count(&room_id).await? > MAX_WAITING {
                return Err(EngineError::limit_exceeded(std::time::Duration::from_secs(
                    30,
                )));
            }
            self.database.put_in_inbox(&room_id, origin, events).await?;
            self.work(room_id);
        }
        Ok(answers)
    }

    /// Which room an event is of, if this server takes events of that room from `origin`.
    async fn sort(
        &self,
        origin: &ServerName,
        event: &RawPdu,
    ) -> Result<Sorted, (Option<OwnedEventId>, EngineError)> {
        #[derive(Deserialize)]
        struct Fields {
            room_id: OwnedRoomId,
        }
        let fields: Fields = serde_json::from_str(event.get())
            .map_err(|error| (None, EngineError::bad_json(error.to_string())))?;
        let room = self.registry.get(&fields.room_id).await;
        let room = room.map_err(|error| (None, error))?;
        let unknown = || EngineError::not_found("this server isn't in that room");
        let room = room.ok_or_else(|| (None, unknown()))?;
        let read = Unverified::read(event.get(), room.id(), room.version())
            .map_err(|error| (None, EngineError::bad_json(error.to_string())))?;
        let event_id = read.pdu.event_id;
        self.room_for_server(origin, room.id())
            .await
            .map_err(|error| (Some(event_id.clone()), error))?;
        Ok(Sorted {
            room_id: fields.room_id,
            event_id,
            json: event.get().to_owned(),
        })
    }

    /// Takes up what was stored and not worked through when the server last stopped.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn resume_inbox(self: &Arc<Self>) -> Result<()> {
        for room_id in self.database.rooms_with_inbox().await? {
            self.work(room_id);
        }
        Ok(())
    }

    fn work(self: &Arc<Self>, room_id: OwnedRoomId) {
        if !self.inbox.arrived(&room_id) {
            return;
        }
        let rooms = self.clone();
        let stopping = self.background.stopping().clone();
        self.background.spawn(async move {
            // What is under way when the server stops is begun again at the next start.
            stopping
                .run_until_cancelled(rooms.work_through(&room_id))
                .await;
        });
    }

    async fn work_through(&self, room_id: &RoomId) {
        loop {
            let rows = match self.database.inbox(room_id, BATCH).await {
                Ok(rows) => rows,
                Err(error) => {
                    tracing::error!(%error, %room_id, "the inbox of a room can't be read");
                    Vec::new()
                }
            };
            if rows.is_empty() {
                if self.inbox.finished(room_id) {
                    return;
                }
                continue;
            }
            let done = rows.iter().map(|row| row.nid).collect();
            for row in rows {
                if let Ok(origin) = OwnedServerName::try_from(row.origin) {
                    self.work_on(room_id, &origin, &row.json).await;
                }
            }
            if let Err(error) = self.database.take_from_inbox(done).await {
                tracing::error!(%error, %room_id, "what was received is worked through again");
            }
        }
    }

    /// Works on one event. Whatever is wrong with it, the next has its turn.
    async fn work_on(&self, room_id: &RoomId, origin: &ServerName, json: &str) {
        for attempt in 1..=ATTEMPTS {
            let result = async {
                let room = self.room(room_id).await?;
                self.receive(&room, origin, json).await
            };
            match result.await {
                Ok(verdict) => {
                    tracing::trace!(%room_id, %origin, ?verdict, "an event was received");
                    return;
                }
                Err(EngineError::Refused { message, .. }) => {
                    tracing::debug!(%room_id, %origin, %message, "an event is dropped");
                    metrics::counter!("parley_dropped_events_total").increment(1);
                    return;
                }
                Err(error) if attempt == ATTEMPTS => {
                    tracing::error!(%room_id, %origin, %error, "an event can't be taken in");
                }
                Err(error) => tracing::debug!(%room_id, %origin, %error, "trying again"),
            }
        }
    }
}
