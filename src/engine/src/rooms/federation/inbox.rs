//! What other servers send: stored before it is acknowledged, and worked through room by room, in order.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use parley_protocol::Unverified;
use parley_storage::{
    Engine as DatabaseEngine, StorageError,
    commit::Write,
    inbox::{InboxRow, Received},
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName, api::error::ErrorKind};
use serde::Deserialize;

use super::receive::Verdict;
use crate::{
    EngineError, Result,
    remote::RawPdu,
    rooms::{Rooms, room::Room},
};

/// Events that a room's worker takes at once.
const BATCH: i64 = 50;
/// Events that may wait for a room. A server that sends more is told to come back.
const MAX_WAITING: i64 = 10_000;
/// Attempts at what fails for a reason that passes at once.
const ATTEMPTS: usize = 3;
/// How long a worker waits when what it has done can't be stored: twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// How often an event is tried again whose ancestors can't be had, and after what time first; twice as long each time, so
/// that the last is about three hours later.
const MAX_RETRIES: i64 = 11;
const FIRST_RETRY_MS: i64 = 5_000;
/// Events of one server that wait in a room to be tried again.
const MAX_RETRYING: i64 = 100;
/// After what time an event is tried again that can't be stored; as often as it takes.
const RETRY_STORING_MS: i64 = 60_000;

/// The rooms whose inbox is being worked through.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<Workers>);

#[derive(Debug, Default)]
struct Workers {
    working: HashSet<OwnedRoomId>,
    /// Rooms in which something has arrived since their worker looked.
    again: HashSet<OwnedRoomId>,
    /// When rooms are looked at again, in milliseconds since the epoch.
    timed: HashMap<OwnedRoomId, i64>,
    /// Rooms in whose inbox something may wait for a time at which nobody will look.
    untimed: HashSet<OwnedRoomId>,
    /// Rooms of which something couldn't be stored, and nothing has been since: what is built on it can't be had therefore.
    failing: HashSet<OwnedRoomId>,
}

/// What a worker does that has found nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finished {
    /// It looks again: something has arrived.
    Again,
    /// It ends.
    Ends {
        /// Whether something may wait for a time at which nobody will look.
        untimed: bool,
    },
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

    /// Notes that a worker found nothing more.
    fn finished(&self, room_id: &RoomId) -> Finished {
        self.workers(|workers| {
            if workers.again.remove(room_id) {
                return Finished::Again;
            }
            workers.working.remove(room_id);
            Finished::Ends {
                untimed: workers.untimed.remove(room_id),
            }
        })
    }

    /// Notes that something may wait in a room for a time at which nobody will look.
    fn set_untimed(&self, room_id: &RoomId) {
        self.workers(|workers| workers.untimed.insert(room_id.to_owned()));
    }

    /// Notes whether what was received of a room could be stored.
    fn set_failing(&self, room_id: &RoomId, fails: bool) {
        self.workers(|workers| match fails {
            true => _ = workers.failing.insert(room_id.to_owned()),
            false => _ = workers.failing.remove(room_id),
        });
    }

    fn is_failing(&self, room_id: &RoomId) -> bool {
        self.workers(|workers| workers.failing.contains(room_id))
    }

    /// Notes that a room is looked at again at a time. Whether somebody has to see to that.
    fn set_timer(&self, room_id: &RoomId, at: i64) -> bool {
        self.workers(|workers| {
            let is_next = workers.timed.get(room_id).is_none_or(|next| *next > at);
            if is_next {
                workers.timed.insert(room_id.to_owned(), at);
            }
            is_next
        })
    }

    /// Notes that the time has come. Something else may wait for a later one.
    fn timer_ends(&self, room_id: &RoomId, at: i64) {
        self.workers(|workers| {
            workers.untimed.insert(room_id.to_owned());
            if workers.timed.get(room_id) == Some(&at) {
                workers.timed.remove(room_id);
            }
        });
    }
}

/// How long a worker waits when what it has done can't be stored.
#[derive(Debug)]
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pause {
    /// How long now; the next time it is longer.
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = pause.saturating_mul(2).min(MAX_PAUSE);
        pause
    }
}

/// What became of an event that was sent: its id, and why it isn't taken if it isn't.
pub type Acknowledged = (OwnedEventId, Result<(), String>);

/// What became of an event in the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worked {
    /// Nothing is left to be done.
    Through,
    /// What it needs can't be had now.
    InVain,
    /// The database fails, by which it, or what it is built on, can't be stored.
    NotStored,
}

/// Whether what couldn't be taken can be if it is sent once more.
fn may_be_taken_later(error: &EngineError) -> bool {
    match error {
        // What makes no sense in the database will not make any then.
        EngineError::Storage(error) => !matches!(error, StorageError::Corrupt(_)),
        EngineError::NotStored(_) => true,
        EngineError::Refused { kind, .. } => matches!(kind, ErrorKind::LimitExceeded(_)),
        _ => false,
    }
}

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
    /// If they can't be stored, or the database fails otherwise; `M_LIMIT_EXCEEDED` if too many wait, or this server is still
    /// coming into a room. The other server sends them again then.
    pub async fn take_transaction(
        self: &Arc<Self>,
        origin: &ServerName,
        events: Vec<RawPdu>,
    ) -> Result<Vec<Acknowledged>> {
        let mut answers = Vec::with_capacity(events.len());
        let mut received = Vec::with_capacity(events.len());
        for event in events {
            match self.sort(origin, &event).await {
                Ok(Sorted {
                    room_id,
                    event_id,
                    json,
                }) => {
                    answers.push((event_id.clone(), Ok(())));
                    received.push(Received {
                        room_id,
                        origin: origin.to_owned(),
                        event_id,
                        json,
                    });
                }
                Err((_, error)) if may_be_taken_later(&error) => return Err(error),
                Err((Some(event_id), error)) => {
                    tracing::debug!(%origin, %event_id, %error, "an event is not taken");
                    answers.push((event_id, Err(error.to_string())));
                }
                // Without an id there is nothing to answer for.
                Err((None, error)) => tracing::debug!(%origin, %error, "an event is not taken"),
            }
        }
        self.put_in_inbox(received).await?;
        Ok(answers)
    }

    /// Stores what was received, and has it worked through. That of rooms for which too much waits is left out, and the whole
    /// refused: what is stored will be known when it comes again.
    async fn put_in_inbox(self: &Arc<Self>, mut received: Vec<Received>) -> Result<()> {
        let mut rooms: BTreeSet<OwnedRoomId> =
            received.iter().map(|event| event.room_id.clone()).collect();
        if rooms.is_empty() {
            return Ok(());
        }
        let full = self
            .database
            .full_inboxes(rooms.iter().map(|id| &**id), MAX_WAITING)
            .await?;
        rooms.retain(|room_id| !full.contains(room_id));
        received.retain(|event| !full.contains(&event.room_id));
        if !received.is_empty() {
            let write = Write {
                received,
                ..Write::default()
            };
            self.committer.commit(write).await?;
        }
        for room_id in rooms {
            self.work(room_id);
        }
        match full.is_empty() {
            true => Ok(()),
            false => Err(EngineError::limit_exceeded(Duration::from_secs(30))),
        }
    }

    /// A room. If this server isn't in it but is about to be: who has let it in tells of what happens from then on, which may
    /// be sooner than all is written that came with the join.
    async fn room_to_be_in(&self, room_id: &RoomId) -> Result<Option<Arc<Room>>> {
        let room = self.registry.find(room_id).await?;
        let is_here = match &room {
            Some(room) => self.is_here(room).await?,
            None => false,
        };
        match !is_here && self.joining.over(room_id).await? {
            true => self.registry.find(room_id).await,
            false => Ok(room),
        }
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
        let room = self.room_to_be_in(&fields.room_id).await;
        let room = room.map_err(|error| (None, error))?;
        let unknown = || EngineError::not_found("this server isn't in that room");
        let room = room.ok_or_else(|| (None, unknown()))?;
        let read = Unverified::read(event.get(), room.id(), room.version());
        let read = read.map_err(|error| {
            let reason = error.to_string();
            self.complaints
                .about(origin, room.id(), "malformed", &reason);
            (None, EngineError::bad_json(reason))
        })?;
        let event_id = read.pdu.event_id.clone();
        let taken = async {
            if self.is_here(&room).await? {
                return self.room_for_server(origin, room.id()).await.map(|_| ());
            }
            self.put_out(&room, &read.pdu).await.map(|_| ())
        };
        taken
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
            self.inbox.set_untimed(&room_id);
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

    async fn work_through(self: &Arc<Self>, room_id: &RoomId) {
        let mut pause = Pause::default();
        loop {
            let now = self.clock.now_ms();
            let rows = match self.database.inbox(room_id, now, BATCH).await {
                Ok(rows) => rows,
                Err(error) => {
                    tracing::error!(%error, %room_id, "the inbox of a room can't be read");
                    self.inbox.set_untimed(room_id);
                    Vec::new()
                }
            };
            // What comes from now on is told by `arrived`, so that after less than a batch it needn't be looked.
            let may_be_more = i64::try_from(rows.len()).is_ok_and(|count| count >= BATCH);
            match self.work_on_all(room_id, rows).await {
                Ok(()) => pause = Pause::default(),
                Err(error) => {
                    // The disk may be full: nothing is to be had from trying at once. The server's stop ends this, too.
                    tracing::error!(%error, %room_id, "what was received is worked through again");
                    tokio::time::sleep(pause.next()).await;
                    continue;
                }
            }
            if may_be_more {
                continue;
            }
            match self.inbox.finished(room_id) {
                Finished::Again => {}
                Finished::Ends { untimed } => {
                    // Another node may have gone that was to look.
                    if untimed || self.database.engine() == DatabaseEngine::Postgres {
                        self.look_again_later(room_id).await;
                    }
                    return;
                }
            }
        }
    }

    /// Works on events of a room, one after the other, and takes them out of the inbox or notes that they are to be tried
    /// later.
    async fn work_on_all(&self, room_id: &RoomId, rows: Vec<InboxRow>) -> Result<()> {
        let mut worked = Vec::with_capacity(rows.len());
        for row in rows {
            worked.push((self.work_on(room_id, &row).await, row.nid));
        }
        if worked.iter().any(|(became, _)| *became != Worked::Through) {
            self.inbox.set_untimed(room_id);
        }
        self.take_from_inbox(room_id, worked).await
    }

    /// Takes what is worked through out of the inbox, and notes what is to be tried later.
    async fn take_from_inbox(&self, room_id: &RoomId, worked: Vec<(Worked, i64)>) -> Result<()> {
        let that_are = |wanted: Worked| -> Vec<i64> {
            let fit = worked.iter().filter(|(became, _)| *became == wanted);
            fit.map(|(_, nid)| *nid).collect()
        };
        let (later, not_stored) = (that_are(Worked::InVain), that_are(Worked::NotStored));
        let now = self.clock.now_ms();
        if !later.is_empty() {
            self.database
                .retry_inbox(later, now, FIRST_RETRY_MS)
                .await?;
        }
        if !not_stored.is_empty() {
            let count = not_stored.len();
            tracing::error!(%room_id, count, "what was received can't be stored; it is tried again in a minute");
            let at = now + RETRY_STORING_MS;
            self.database.postpone_inbox(not_stored, at).await?;
        }
        let done = that_are(Worked::Through);
        if done.is_empty() {
            return Ok(());
        }
        let write = Write {
            worked_through: done,
            ..Write::default()
        };
        self.committer.commit(write).await
    }

    /// Sees to it that a room's inbox is looked at when something in it is to be tried again.
    async fn look_again_later(self: &Arc<Self>, room_id: &RoomId) {
        let at = match self.database.next_inbox_retry(room_id).await {
            Ok(Some(at)) => at,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, %room_id, "the inbox of a room can't be read");
                self.clock.now_ms() + 60_000
            }
        };
        if !self.inbox.set_timer(room_id, at) {
            return;
        }
        let wait = u64::try_from(at - self.clock.now_ms()).unwrap_or_default();
        let (rooms, room_id) = (self.clone(), room_id.to_owned());
        let stopping = self.background.stopping().clone();
        self.background.spawn(async move {
            let wait = tokio::time::sleep(Duration::from_millis(wait));
            if stopping.run_until_cancelled(wait).await.is_some() {
                rooms.inbox.timer_ends(&room_id, at);
                rooms.work(room_id);
            }
        });
    }

    /// Works on one event. Whatever is wrong with it, the next has its turn.
    async fn work_on(&self, room_id: &RoomId, row: &InboxRow) -> Worked {
        let Ok(origin) = OwnedServerName::try_from(row.origin.as_str()) else {
            return Worked::Through;
        };
        let mut reason = String::new();
        for _ in 0..ATTEMPTS {
            let result = async {
                let room = self.registry.find(room_id).await?;
                let unknown = || EngineError::not_found("this server isn't in that room");
                let room = room.ok_or_else(unknown)?;
                match self.is_here(&room).await? {
                    true => self.receive(&room, &origin, &row.json).await,
                    false => self.receive_outside(&room, &row.json).await,
                }
            };
            match result.await {
                Ok(Verdict::Unanchored(missing)) => {
                    reason = missing;
                    break;
                }
                Ok(verdict) => {
                    tracing::trace!(%room_id, %origin, ?verdict, "an event was received");
                    if verdict != Verdict::Known {
                        self.inbox.set_failing(room_id, false);
                    }
                    if let Verdict::Rejected(reason) = verdict {
                        self.complaints.about(&origin, room_id, "rejected", &reason);
                    }
                    return Worked::Through;
                }
                Err(EngineError::Refused { kind, message }) => {
                    let kind = match kind {
                        ErrorKind::BadJson => "malformed",
                        ErrorKind::Forbidden => "refused",
                        _ => "unknown",
                    };
                    self.complaints.about(&origin, room_id, kind, &message);
                    return Worked::Through;
                }
                Err(error) => {
                    tracing::debug!(%room_id, %origin, %error, "trying again");
                    if let EngineError::Storage(_) | EngineError::NotStored(_) = error {
                        self.inbox.set_failing(room_id, true);
                    }
                    reason = error.to_string();
                }
            }
        }
        if self.inbox.is_failing(room_id) {
            return Worked::NotStored;
        }
        match self.may_wait(room_id, &origin, row, &reason).await {
            true => Worked::InVain,
            false => Worked::Through,
        }
    }

    /// Whether an event that can't be taken in now is tried again: not if it was tried often enough, or too many wait.
    async fn may_wait(
        &self,
        room_id: &RoomId,
        origin: &ServerName,
        row: &InboxRow,
        reason: &str,
    ) -> bool {
        let waiting = match row.attempts {
            0 => self.database.inbox_retries(room_id, origin).await,
            // It is one of those that wait.
            _ => Ok(0),
        };
        let is_full = waiting.is_ok_and(|waiting| waiting >= MAX_RETRYING);
        if row.attempts >= MAX_RETRIES || is_full {
            self.complaints.about(origin, room_id, "lost", reason);
            return false;
        }
        tracing::debug!(%room_id, %origin, reason, "an event is tried again later");
        true
    }
}

#[cfg(test)]
mod tests {
    use ruma::room_id;

    use super::*;

    #[test]
    fn a_worker_ends_when_nothing_came_meanwhile_and_looks_for_what_nobody_else_will_look_for() {
        let (inbox, room_id) = (Inbox::default(), room_id!("!r:a.test"));
        let ends = |untimed| Finished::Ends { untimed };
        assert!(inbox.arrived(room_id));
        assert!(!inbox.arrived(room_id));
        assert_eq!(inbox.finished(room_id), Finished::Again);
        assert_eq!(inbox.finished(room_id), ends(false));
        assert!(inbox.arrived(room_id));
        inbox.set_untimed(room_id);
        assert_eq!(inbox.finished(room_id), ends(true));
        assert!(inbox.set_timer(room_id, 5));
        assert!(inbox.arrived(room_id));
        assert_eq!(inbox.finished(room_id), ends(false));
        inbox.timer_ends(room_id, 5);
        assert!(inbox.arrived(room_id));
        assert_eq!(inbox.finished(room_id), ends(true));
    }

    #[test]
    fn a_worker_whose_work_cannot_be_stored_waits_longer_each_time_and_not_for_ever() {
        let mut pause = Pause::default();
        let pauses = [(); 8].map(|()| pause.next().as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
