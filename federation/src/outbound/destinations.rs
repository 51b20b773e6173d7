//! How it goes with each server: whether it is worth trying, and how much is asked of it at once.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parley_engine::{clock::Clock, complaints::Complaints, outgoing::Announcer, random::Random};
use parley_storage::{Database, destinations::DestinationRow};
use quick_cache::sync::Cache;
use ruma::{OwnedServerName, ServerName};
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};

/// Servers in memory. One that isn't is read from the database when it is next spoken with.
const REMEMBERED: usize = 20_000;
/// Requests to one server that are under way at once.
const REQUESTS: usize = 20;
/// How long a server is left alone after the first failure; twice as long each time, up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
/// After what time it is forgotten how it went with a server that lacks nothing and wasn't spoken with since.
const FORGOTTEN_MS: i64 = 30 * 24 * 60 * 60 * 1_000;
/// How exactly it is stored when a server was last reached.
const GRAIN_MS: i64 = 60 * 60 * 1_000;

/// All servers.
#[derive(Clone, Debug)]
pub(crate) struct Destinations {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    database: Database,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// The way to the other nodes.
    announcer: Announcer,
    entries: Cache<OwnedServerName, Arc<Destination>>,
    complaints: Complaints,
    /// Rung when a server that failed is heard from, or reached.
    back: Notify,
    /// The servers that were.
    returned: Mutex<Vec<OwnedServerName>>,
}

/// One server.
#[derive(Debug)]
pub(crate) struct Destination {
    /// Places for requests.
    pub(crate) slots: Semaphore,
    health: Mutex<DestinationRow>,
    /// Whether it is stored how it goes with it.
    is_noted: AtomicBool,
    /// When it was last reached, as it is stored.
    stored_success: Mutex<i64>,
    /// Held while it is stored: the last one to be stored has to be the newest.
    storing: AsyncMutex<()>,
}

impl Destination {
    /// How it goes with it.
    pub(crate) fn health(&self) -> MutexGuard<'_, DestinationRow> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is of interest how it goes with it, beyond what is in memory.
    pub(crate) fn note(&self) {
        self.is_noted.store(true, Ordering::Relaxed);
    }

    fn is_noted(&self) -> bool {
        self.is_noted.load(Ordering::Relaxed)
    }
}

impl Destinations {
    pub(crate) fn new(
        database: Database,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        announcer: Announcer,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                database,
                complaints: Complaints::new(Arc::clone(&clock)),
                clock,
                random,
                announcer,
                entries: Cache::new(REMEMBERED),
                back: Notify::new(),
                returned: Mutex::default(),
            }),
        }
    }

    /// A server, with what is stored of it.
    pub(crate) async fn get(&self, name: &ServerName) -> Arc<Destination> {
        let load = async {
            let row = match self.inner.database.destination(name.as_str()).await {
                Ok(row) => row,
                Err(error) => {
                    tracing::warn!(%error, "what is known of another server can't be read");
                    None
                }
            };
            let is_noted = AtomicBool::new(row.is_some());
            let row = row.unwrap_or_default();
            Ok::<_, std::convert::Infallible>(Arc::new(Destination {
                slots: Semaphore::new(REQUESTS),
                stored_success: Mutex::new(row.last_success_at.unwrap_or(0)),
                storing: AsyncMutex::default(),
                is_noted,
                health: Mutex::new(row),
            }))
        };
        let Ok(entry) = self.inner.entries.get_or_insert_async(name, load).await;
        entry
    }

    /// For how many milliseconds a server is to be left alone; 0: not at all.
    pub(crate) async fn pause(&self, name: &ServerName) -> i64 {
        let entry = self.get(name).await;
        let retry_at = entry.health().retry_at;
        retry_at.map_or(0, |at| (at - self.inner.clock.now_ms()).max(0))
    }

    /// A server was reached. What waits for it needn't wait longer, whoever has reached it.
    pub(crate) async fn succeeded(&self, name: &ServerName, entry: &Destination) {
        let now = self.inner.clock.now_ms();
        let (was_left_alone, is_news) = {
            let mut health = entry.health();
            let was_failing = health.failing_since.is_some();
            let was_left_alone = health.retry_at.is_some();
            let mut stored = lock(&entry.stored_success);
            *health = DestinationRow {
                last_success_at: Some(now),
                ..DestinationRow::default()
            };
            let is_news = entry.is_noted() && (was_failing || now - *stored >= GRAIN_MS);
            if is_news {
                *stored = now;
            }
            (was_left_alone, is_news)
        };
        if is_news {
            self.store(name, entry).await;
        }
        if was_left_alone {
            self.call_back(name);
        }
    }

    /// A server wasn't reached.
    pub(crate) async fn failed(&self, name: &ServerName, entry: &Destination, reason: &str) {
        let now = self.inner.clock.now_ms();
        let failures = {
            let mut health = entry.health();
            if health.retry_at.is_some_and(|at| at > now) {
                // Another request has said so before.
                return;
            }
            let doubled = 2_u32.saturating_pow(u32::try_from(health.failures).unwrap_or(u32::MAX));
            let pause = FIRST_PAUSE.saturating_mul(doubled).min(MAX_PAUSE);
            // Not all at once, where many failed together.
            let draw = f64::from(self.inner.random.number()) / f64::from(u32::MAX);
            let pause = pause.mul_f64(0.8 + 0.4 * draw);
            let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
            health.failing_since.get_or_insert(now);
            health.failures += 1;
            health.retry_at = Some(now.saturating_add(pause));
            health.last_error = Some(reason.chars().take(300).collect());
            health.failures
        };
        if failures == 1
            && let Some(before) = self.inner.complaints.is_due(name)
        {
            tracing::info!(
                server = %name, reason, before,
                "another server isn't reached; that is not said of it again for 10 minutes"
            );
        }
        self.store(name, entry).await;
        if entry.is_noted() {
            self.inner.announcer.server_failed(name);
        }
    }

    /// Has a server be read anew, as another node has stored that it failed.
    pub(crate) fn forget(&self, name: &ServerName) {
        self.inner.entries.remove(name);
    }

    /// A server has spoken to another node, or is to be tried again as an administrator told that.
    pub(crate) async fn returned_elsewhere(&self, name: &ServerName) {
        self.forget(name);
        self.get(name).await.health().retry_at = None;
    }

    /// A server has spoken: it is worth trying again.
    pub(crate) async fn heard_from(&self, name: &ServerName) {
        let entry = self.get(name).await;
        {
            let mut health = entry.health();
            if health.retry_at.take().is_none() {
                return;
            }
        }
        self.call_back(name);
    }

    /// Tries a server again at once. Whether it was to be left alone.
    pub(crate) async fn retry(&self, name: &ServerName) -> bool {
        let entry = self.get(name).await;
        {
            let mut health = entry.health();
            if health.retry_at.take().is_none() {
                return false;
            }
            health.failures = 0;
        }
        self.store(name, &entry).await;
        self.call_back(name);
        true
    }

    /// Forgets servers that nobody has spoken with for long, and that lack nothing.
    pub(crate) async fn forget_old(&self) {
        let before = self.inner.clock.now_ms().saturating_sub(FORGOTTEN_MS);
        if let Err(error) = self.inner.database.forget_destinations(before).await {
            tracing::warn!(%error, "what is known of servers of old can't be removed");
        }
    }

    fn call_back(&self, name: &ServerName) {
        self.inner.announcer.server_returned(name);
        lock(&self.inner.returned).push(name.to_owned());
        self.inner.back.notify_one();
    }

    /// Waits until servers are back, and says which.
    pub(crate) async fn returned(&self) -> Vec<OwnedServerName> {
        loop {
            let returned = std::mem::take(&mut *lock(&self.inner.returned));
            if !returned.is_empty() {
                return returned;
            }
            self.inner.back.notified().await;
        }
    }

    /// Stores how it goes with a server now, if that is of interest.
    async fn store(&self, name: &ServerName, entry: &Destination) {
        if !entry.is_noted() {
            return;
        }
        let _storing = entry.storing.lock().await;
        let row = entry.health().clone();
        let stored = self.inner.database.set_destination(name.as_str(), &row);
        if let Err(error) = stored.await {
            tracing::warn!(%error, server = %name, "how it goes with another server can't be stored");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use parley_storage::destinations::{BacklogRow, SenderNotes};
    use ruma::{api::federation::discovery::get_server_keys, server_name};

    use super::*;
    use crate::outbound::{
        client::Effort,
        testing::{Way, answer},
    };

    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

    #[tokio::test]
    async fn a_server_that_goes_on_failing_is_left_alone_longer_each_time_up_to_about_a_day() {
        let way = Way::open().await;
        let (all, server) = (way.client.destinations(), server_name!("a.example"));
        let entry = all.get(server).await;
        entry.note();
        let mut expected = 5_000;
        for count in 1..=40 {
            all.failed(server, &entry, "refused").await;
            // What other requests say of the same failure changes nothing.
            all.failed(server, &entry, "refused again").await;
            assert_eq!(entry.health().failures, count);
            let pause = all.pause(server).await;
            let tenths = pause * 10 / expected;
            assert!((8..=12).contains(&tenths), "{count}: {pause}");
            way.clock.advance(Duration::from_millis(pause as u64));
            assert_eq!(all.pause(server).await, 0);
            expected = (expected * 2).min(DAY_MS);
        }
        // It outlives a restart.
        let stored = way.database.destination(server.as_str()).await.unwrap();
        assert_eq!(stored.as_ref(), Some(&*entry.health()));
        all.succeeded(server, &entry).await;
        assert_eq!(entry.health().failing_since, None);
        all.failed(server, &entry, "refused").await;
        assert!(all.pause(server).await <= 6_000);
    }

    #[tokio::test]
    async fn a_server_that_is_reached_before_its_time_is_called_back() {
        let way = Way::open().await;
        let (all, server) = (way.client.destinations(), server_name!("a.example"));
        let entry = all.get(server).await;
        all.succeeded(server, &entry).await;
        all.failed(server, &entry, "refused").await;
        all.succeeded(server, &entry).await;
        assert_eq!(all.returned().await, [server]);
        assert!(lock(&all.inner.returned).is_empty());
    }

    #[tokio::test]
    async fn nothing_is_stored_of_servers_that_are_only_asked_for_keys() {
        let way = Way::open().await;
        let (all, server) = (way.client.destinations(), server_name!("a.example"));
        let stored = async || way.database.destination(server.as_str()).await.unwrap();
        let ask = async |effort| {
            let request = get_server_keys::v2::Request::new();
            way.client.send(server, request, effort).await.unwrap_err();
        };
        way.line.answer(|_, _| answer(500, "{}"));
        ask(Effort::KEYS).await;
        assert_eq!(all.get(server).await.health().failures, 1);
        assert_eq!(stored().await, None);
        way.clock.advance(Duration::from_secs(60));
        way.line.answer(|_, _| answer(404, "{}"));
        ask(Effort::KEYS).await;
        assert_eq!(stored().await, None);
        // Once something else was asked of it, what is asked for anybody counts, too.
        ask(Effort::QUERY).await;
        assert!(stored().await.unwrap().last_success_at.is_some());
        way.line.answer(|_, _| answer(500, "{}"));
        ask(Effort::KEYS).await;
        assert_eq!(stored().await.unwrap().failures, 1);
    }

    #[tokio::test]
    async fn servers_that_nobody_has_spoken_with_for_long_are_forgotten_unless_they_lack_something()
    {
        let way = Way::open().await;
        let all = way.client.destinations();
        let names = [
            "lacks.example",
            "gone.example",
            "fine.example",
            "new.example",
        ];
        let names = names.map(|name| OwnedServerName::try_from(name).unwrap());
        for name in &names {
            let entry = all.get(name).await;
            entry.note();
            match name.as_str() {
                "fine.example" => all.succeeded(name, &entry).await,
                _ => all.failed(name, &entry, "refused").await,
            }
        }
        way.database.lease_sender("a", 0, 1).await.unwrap();
        let row = BacklogRow {
            room_nid: 1,
            position: 1,
        };
        let notes = SenderNotes {
            events: vec![(names[0].to_string(), row)],
            ..SenderNotes::default()
        };
        way.database.note_sent("a", notes).await.unwrap();
        way.clock
            .advance(Duration::from_millis(FORGOTTEN_MS as u64 + 10_000));
        let entry = all.get(&names[3]).await;
        all.failed(&names[3], &entry, "refused").await;
        all.forget_old().await;
        let left = way.database.destinations().await.unwrap();
        let left: Vec<String> = left.into_iter().map(|(name, ..)| name).collect();
        assert_eq!(left, ["lacks.example", "new.example"]);
    }
}
