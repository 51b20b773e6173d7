//! Tells other servers what happens in the rooms that they are in.
//!
//! The sender follows the stream, as the search's indexer does. Each event of a user of this server, and each join, leave
//! or knock that another server gave this one to tell the rest, goes into the queues ([`queue`]) of the servers in its room,
//! and from there in transactions ([`delivery`]), one at a time for each server.
//! What can't be delivered becomes a note in the database, of which server lacks something of which room; when the server is
//! back, it gets the newest events of those rooms and asks for the rest, and the newest receipts. So does a server that is
//! slower than its rooms are, of what more there is than may wait. So a server that is gone costs one or two notes a room,
//! and a try now and then. How far the stream was followed is stored behind everything that is neither delivered nor noted:
//! after a crash some is sent twice, and nothing is lost.
//!
//! Of several nodes over one database, one sends: who has the lease.

mod delivery;
mod edus;
mod fan_out;
mod queue;
mod receipts;
mod slots;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parley_engine::Engine;
use parley_storage::{
    Database, Engine as DatabaseEngine, StorageError,
    destinations::{self, BacklogRow, SenderNotes},
};
use ruma::{OwnedServerName, ServerName};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    edus::Fleeting,
    queue::{Queue, WaitingPdu},
    slots::Slots,
};
use crate::{outbound::Client, policy::Policy};

/// Events that are read from the stream at once.
const BATCH: i64 = 200;
/// How often it is looked what is due.
const TICK: Duration = Duration::from_secs(1);
/// How often it is noted how far the stream was followed.
const NOTE_EVERY_MS: i64 = 5_000;
/// How often servers are forgotten that nobody speaks with any more.
const TIDY_EVERY_MS: i64 = 24 * 60 * 60 * 1_000;
/// For how long a node may send, and how often it asks for more.
const LEASE_MS: i64 = 20_000;
const LEASE_EVERY_MS: i64 = 5_000;
/// In a stop, for what is under way.
const GRACE: Duration = Duration::from_secs(3);
/// Fleeting things that wait to be sorted into the queues.
const MAX_FLEETING: usize = 10_000;

/// Sends to other servers. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    database: Database,
    client: Client,
    policy: Policy,
    /// Which node this is.
    node: String,
    queues: Mutex<Queues>,
    /// Held from when notes are taken out of the queues until they're stored: who reads them then would miss them in either
    /// place, and leave a server without them.
    noting: AsyncMutex<()>,
    slots: Slots,
    leads: AtomicBool,
    transactions: AtomicU64,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

/// The queues, and what is to be noted of them.
#[derive(Debug, Default)]
struct Queues {
    by_server: HashMap<OwnedServerName, Queue>,
    /// When which server is to be tried again.
    retries: BTreeSet<(i64, OwnedServerName)>,
    /// What servers lack and isn't noted yet.
    unwritten: Unwritten,
}

/// What servers lack: by server and room, a position.
type Lacking = HashMap<(OwnedServerName, i64), i64>;

/// What is to be noted of what servers lack.
#[derive(Debug, Default)]
struct Unwritten {
    /// The newest event.
    events: Lacking,
    /// The oldest receipt.
    receipts: Lacking,
}

impl Unwritten {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.receipts.is_empty()
    }

    /// Whether there is something of a server.
    fn are_of(&self, server: &ServerName) -> bool {
        let mut keys = self.events.keys().chain(self.receipts.keys());
        keys.any(|(name, _)| name == server)
    }

    /// Takes back what couldn't be written.
    fn put_back(&mut self, old: Self) {
        for (key, at) in old.events {
            self.events.entry(key).or_insert(at);
        }
        for (key, at) in old.receipts {
            self.add_receipt(key, at);
        }
    }

    /// Takes a receipt up; the oldest counts.
    fn add_receipt(&mut self, key: (OwnedServerName, i64), at: i64) {
        let oldest = self.receipts.entry(key).or_insert(at);
        *oldest = at.min(*oldest);
    }
}

/// Where the follower is.
#[derive(Debug, Default)]
struct Place {
    /// Up to where the stream was looked at.
    looked_at: i64,
    /// What is stored of it.
    noted: i64,
    noted_at: i64,
    leased_at: i64,
    /// When servers were last forgotten that nobody speaks with any more.
    tidied_at: i64,
}

impl Sender {
    /// Starts to follow the stream.
    pub(crate) fn start(
        engine: &Engine,
        database: &Database,
        client: &Client,
        policy: &Policy,
    ) -> Self {
        let node = match database.engine() {
            // There is but one, which needn't wait for itself after a crash.
            DatabaseEngine::Sqlite => "the only one".to_owned(),
            DatabaseEngine::Postgres => format!("{:016x}", rand::random::<u64>()),
        };
        let sender = Self {
            inner: Arc::new(Inner {
                engine: engine.clone(),
                database: database.clone(),
                client: client.clone(),
                policy: policy.clone(),
                node,
                queues: Mutex::default(),
                noting: AsyncMutex::default(),
                slots: Slots::default(),
                leads: AtomicBool::new(false),
                transactions: AtomicU64::new(0),
                tasks: TaskTracker::new(),
                stopping: CancellationToken::new(),
            }),
        };
        let (fleeting, arrived) = mpsc::channel(MAX_FLEETING);
        engine.announcer().connect(Arc::new(Fleeting(fleeting)));
        let tasks = &sender.inner.tasks;
        tasks.spawn(Arc::clone(&sender.inner).follow());
        tasks.spawn(Arc::clone(&sender.inner).sort_fleeting(arrived));
        tasks.spawn(Arc::clone(&sender.inner).welcome());
        sender
    }

    /// Ends what is under way, notes what wasn't delivered, and lets another node send.
    pub(crate) async fn stop(&self) {
        self.inner.stopping.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// How many events and other things wait in memory for a server.
    pub(crate) fn waiting(&self, server: &ServerName) -> usize {
        let queues = self.inner.queues();
        queues.by_server.get(server).map_or(0, Queue::len)
    }
}

impl Inner {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> i64 {
        self.engine.clock().now_ms()
    }

    fn leads(&self) -> bool {
        self.leads.load(Ordering::Acquire)
    }

    /// The life of the follower.
    async fn follow(self: Arc<Self>) {
        let mut place = Place::default();
        while !self.stopping.is_cancelled() {
            if let Err(error) = self.step(&mut place).await {
                tracing::warn!(%error, "what happens in rooms can't be sent to other servers");
                let pause = tokio::time::sleep(TICK);
                self.stopping.run_until_cancelled(pause).await;
                continue;
            }
            let moved = self.engine.stream().beyond(place.looked_at);
            tokio::select! {
                () = self.stopping.cancelled() => {}
                () = moved, if self.leads() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
        self.finish(&mut place).await;
    }

    async fn step(self: &Arc<Self>, place: &mut Place) -> Result<(), StorageError> {
        let now = self.now();
        if now - place.leased_at >= LEASE_EVERY_MS || !self.leads() {
            self.lease(place, now).await?;
        }
        if !self.leads() {
            return Ok(());
        }
        self.read_stream(place).await?;
        self.try_again(now);
        if now - place.noted_at >= NOTE_EVERY_MS {
            self.note(place, now).await?;
        }
        if now - place.tidied_at >= TIDY_EVERY_MS {
            self.client.destinations().forget_old().await;
            place.tidied_at = now;
        }
        Ok(())
    }

    /// Asks to be the node that sends, or to go on.
    async fn lease(self: &Arc<Self>, place: &mut Place, now: i64) -> Result<(), StorageError> {
        let until = now.saturating_add(LEASE_MS);
        let position = self.database.lease_sender(&self.node, now, until).await?;
        place.leased_at = now;
        match (position, self.leads()) {
            (Some(position), false) => {
                *place = Place {
                    looked_at: position,
                    noted: position,
                    noted_at: now,
                    leased_at: now,
                    tidied_at: 0,
                };
                let lacking = self.database.servers_with_backlog().await?;
                self.leads.store(true, Ordering::Release);
                for server in lacking {
                    if let Ok(server) = OwnedServerName::try_from(server) {
                        self.queues().of(&server).has_backlog = true;
                        self.begin(&server).await;
                    }
                }
            }
            (None, true) => {
                tracing::warn!("another node sends to other servers now");
                self.leads.store(false, Ordering::Release);
                *self.queues() = Queues::default();
            }
            _ => {}
        }
        Ok(())
    }

    /// Sorts what is new in the stream into the queues.
    async fn read_stream(self: &Arc<Self>, place: &mut Place) -> Result<(), StorageError> {
        let to = self.engine.stream().position();
        while place.looked_at < to && !self.stopping.is_cancelled() {
            let from = place.looked_at;
            let rows = self.database.events_between(from, to, BATCH).await?;
            let reached = match rows.last() {
                Some(last) if rows.len() as i64 == BATCH => last.position,
                _ => to,
            };
            self.fan_out(&rows).await?;
            place.looked_at = reached;
        }
        Ok(())
    }

    /// Tries servers again whose time has come.
    fn try_again(self: &Arc<Self>, now: i64) {
        loop {
            let server = {
                let mut queues = self.queues();
                match queues.retries.first() {
                    Some((at, _)) if *at <= now => {}
                    _ => return,
                }
                queues.retries.pop_first().map(|(_, server)| server)
            };
            if let Some(server) = server {
                self.deliver_to(&server);
            }
        }
    }

    /// Tries servers that were heard from.
    async fn welcome(self: Arc<Self>) {
        let destinations = self.client.destinations();
        while let Some(back) = self
            .stopping
            .run_until_cancelled(destinations.returned())
            .await
        {
            for server in back {
                self.try_now(&server);
            }
        }
    }

    /// Tries a server, if something waits for it here.
    fn try_now(self: &Arc<Self>, server: &ServerName) {
        let waits = self.queues().by_server.contains_key(server);
        if waits && self.leads() {
            self.deliver_to(server);
        }
    }

    /// Stores how far everything was delivered or noted.
    async fn note(&self, place: &mut Place, now: i64) -> Result<(), StorageError> {
        place.noted_at = now;
        let _noting = self.noting.lock().await;
        let (position, unwritten) = {
            let mut queues = self.queues();
            let waiting = queues.by_server.values().filter_map(Queue::oldest).min();
            let reached = waiting.map_or(place.looked_at, |oldest| place.looked_at.min(oldest - 1));
            // Never back: what is older was noted or delivered before.
            (
                reached.max(place.noted),
                std::mem::take(&mut queues.unwritten),
            )
        };
        if position == place.noted && unwritten.is_empty() {
            return Ok(());
        }
        self.write(Some(position), unwritten).await?;
        place.noted = position;
        Ok(())
    }

    /// Stores what is to be noted; if that fails, it is to be noted still.
    async fn write(&self, position: Option<i64>, unwritten: Unwritten) -> Result<(), StorageError> {
        let notes = SenderNotes {
            position,
            events: rows(&unwritten.events),
            receipts: rows(&unwritten.receipts),
        };
        match self.database.note_sent(&self.node, notes).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.leads.store(false, Ordering::Release);
                Ok(())
            }
            Err(error) => {
                self.queues().unwritten.put_back(unwritten);
                Err(error)
            }
        }
    }

    /// Ends: what is under way may finish, the rest is found again by the next start.
    async fn finish(&self, place: &mut Place) {
        let finished = async {
            // Deliveries end by themselves now, after the transaction that they are at.
            while self.queues().by_server.values().any(|queue| queue.busy) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Whoever is slower is told again.
        let _ = tokio::time::timeout(GRACE, finished).await;
        if !self.leads() {
            return;
        }
        self.queues().give_up_receipts();
        let ended = async {
            self.note(place, self.now()).await?;
            self.database.end_lease(&self.node).await
        };
        if let Err(error) = ended.await {
            tracing::warn!(%error, "what was sent to other servers can't be noted");
        }
    }
}

impl Queues {
    /// The queue of a server, made if there is none.
    fn of(&mut self, server: &ServerName) -> &mut Queue {
        if !self.by_server.contains_key(server) {
            self.by_server.insert(server.to_owned(), Queue::default());
        }
        self.by_server.entry(server.to_owned()).or_default()
    }

    /// Has an event wait for a server, or notes what it lacks where too many do.
    fn push(&mut self, server: &ServerName, pdu: WaitingPdu) {
        let given_up = self.of(server).push(pdu);
        for (room_nid, position) in given_up {
            self.lacks(server, room_nid, position, true);
        }
    }

    /// Notes that a server lacks an event of a room. It is stored once for each room, unless `anew`.
    fn lacks(&mut self, server: &ServerName, room_nid: i64, position: i64, anew: bool) {
        let queue = self.of(server);
        queue.has_backlog = true;
        if queue.events.add(room_nid) || anew {
            let key = (server.to_owned(), room_nid);
            self.unwritten.events.insert(key, position);
        }
    }

    /// Notes that a server lacks receipts of a room, from that position on. It is stored once for each room, unless it is
    /// `older` than what may be stored, as what was under way is.
    fn lacks_receipts(&mut self, server: &ServerName, room_nid: i64, position: i64, older: bool) {
        let queue = self.of(server);
        queue.has_backlog = true;
        if queue.receipts.add(room_nid) || older {
            self.unwritten
                .add_receipt((server.to_owned(), room_nid), position);
        }
    }

    /// Notes all receipts that wait for anybody.
    fn give_up_receipts(&mut self) {
        let given_up: Vec<_> = self
            .by_server
            .iter_mut()
            .map(|(server, queue)| (server.clone(), queue.give_up_receipts()))
            .collect();
        for (server, receipts) in given_up {
            for (room_nid, position) in receipts {
                self.lacks_receipts(&server, room_nid, position, true);
            }
        }
    }
}

fn rows(lacking: &Lacking) -> destinations::Lacking {
    let rows = lacking.iter().map(|((server, room_nid), position)| {
        let row = BacklogRow {
            room_nid: *room_nid,
            position: *position,
        };
        (server.to_string(), row)
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_that_was_under_way_is_noted_though_a_newer_one_was_noted_before() {
        let mut queues = Queues::default();
        let server = OwnedServerName::try_from("b").unwrap();
        queues.lacks_receipts(&server, 7, 11, false);
        queues.lacks_receipts(&server, 7, 12, false);
        queues.lacks_receipts(&server, 7, 10, true);
        assert_eq!(queues.unwritten.receipts[&(server, 7)], 10);
    }
}
