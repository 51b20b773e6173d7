//! Keys of servers: what this one publishes, and what others did.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>

mod notary;
mod own;
mod published;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use parley_engine::{
    clock::{Clock, timestamp},
    complaints::Complaints,
    remote::{KnownKey, KnownKeys, RemoteError, WantedKey},
};
use parley_storage::{
    Database, StorageError,
    server_keys::{PublishedKeysRow, ServerKeyRow},
};
use quick_cache::sync::Cache;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedServerSigningKeyId, ServerName,
    api::federation::discovery::get_server_keys, serde::Base64,
};
use tokio::sync::{Mutex, Semaphore};

use self::notary::Notary;
pub(crate) use self::{
    own::{OwnKeys, old_key},
    published::Published,
};
use crate::outbound::client::{Client, Effort};

/// Servers whose keys are in memory.
const REMEMBERED: usize = 10_000;
/// Keys of one server that are remembered: those that hold the longest.
const MAX_KEYS: usize = 100;
/// Servers that are remembered on disk although they signed no event that this server looked at. Anybody can have it ask
/// any number of those, by requests in their names or questions to it as a notary. So nothing but what they published last
/// is stored of them, and of the oldest not even that: at worst, they are asked again. Whoever signed an event has rows of
/// their own in `server_keys`, which stay, as old events have to be checked when their server is long gone; and that takes
/// more than a name, as events are looked at that come from servers in the rooms of this one's users.
const STRANGERS: i64 = 1_000;
/// After how many of them it is looked which are too many.
const STRANGERS_STEP: u64 = 100;
/// Servers that are asked for keys at once, for one who wants them.
const AT_ONCE: usize = 20;
/// Servers that are asked for keys at once, for all who want them.
const QUESTIONS: usize = 50;
/// How long a server that gave no keys isn't asked again.
const PAUSE_MS: i64 = 60 * 1_000;
/// How long keys that don't hold long enough are taken for what there is.
const FRESH_MS: i64 = 5 * 60 * 1_000;
/// How often a server is asked, within [`AGAIN_MS`], for a key that was not among those it gave: anyone can name any. But it
/// may have got a new one since.
const AGAIN: usize = 3;
const AGAIN_MS: i64 = 30 * 1_000;
/// How long somebody waits for the keys of one server.
const PATIENCE: Duration = Duration::from_secs(40);

/// The keys of one server.
#[derive(Debug, Default)]
struct ServerEntry {
    /// Whether the database was read.
    loaded: bool,
    /// Whether its keys are stored for good.
    is_kept: bool,
    keys: BTreeMap<OwnedServerSigningKeyId, KnownKey>,
    /// When it was asked and gave keys, the last time first.
    asked_at: [i64; AGAIN],
    /// When its answer was last of no use; when it wasn't reached.
    failed_at: i64,
    unreached_at: i64,
    /// When it was last not asked because it fails.
    spared_at: i64,
}

/// Why a server gave no keys.
#[derive(Debug)]
enum NoKeys {
    Unreachable(String),
    /// It answered, but not with its keys.
    Useless(String),
}

/// What keys are looked for for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// An event. What this server keeps, it has to be able to check later, too.
    Event,
    /// A request of the server itself: so it is there, whatever is remembered of it.
    Request,
    /// Somebody who wants to know.
    Notary,
}

impl ServerEntry {
    fn has(&self, wanted: &WantedKey) -> bool {
        let key = self.keys.get(&wanted.key_id);
        key.is_some_and(|key| key.valid_until >= wanted.valid_at)
    }

    /// Takes keys up.
    fn add(&mut self, keys: impl IntoIterator<Item = (OwnedServerSigningKeyId, KnownKey)>) {
        self.keys.extend(keys);
        while self.keys.len() > MAX_KEYS {
            let oldest = self.keys.iter().min_by_key(|(_, key)| key.valid_until);
            let Some(id) = oldest.map(|(id, _)| id.clone()) else {
                return;
            };
            self.keys.remove(&id);
        }
    }

    /// Whether it gave no keys, or wasn't asked for them, so lately that it isn't asked now. Who asks for somebody else
    /// doesn't keep the server itself waiting; and a server that wasn't reached, but has been since, at `reached_at`, is
    /// asked at once: a user may just be joining one of its rooms.
    fn is_paused(&self, purpose: Purpose, reached_at: i64, now: i64) -> bool {
        let unreached_at = match purpose {
            Purpose::Request => self.unreached_at,
            Purpose::Event | Purpose::Notary => self.unreached_at.max(self.spared_at),
        };
        let is_back = reached_at > unreached_at;
        let since = match is_back {
            true => self.failed_at,
            false => self.failed_at.max(unreached_at),
        };
        now - since < PAUSE_MS
    }

    /// It gave what was wanted, or somebody else did.
    fn forget_failures(&mut self) {
        (self.failed_at, self.unreached_at, self.spared_at) = (0, 0, 0);
    }
}

/// Keys of other servers. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    database: Database,
    clock: Arc<dyn Clock>,
    own: OwnKeys,
    notaries: Vec<Notary>,
    servers: Cache<OwnedServerName, Arc<Mutex<ServerEntry>>>,
    /// Places for questions: anyone can make this server ask, by a request in the name of any server.
    slots: Semaphore,
    /// How often keys were stored of servers that are not kept for good.
    strangers: AtomicU64,
    complaints: Complaints,
}

impl Keys {
    pub(crate) fn new(
        client: Client,
        database: Database,
        clock: Arc<dyn Clock>,
        own: OwnKeys,
        notaries: Vec<OwnedServerName>,
    ) -> Self {
        let others = notaries
            .into_iter()
            .filter(|notary| notary != client.own_name());
        let notaries = others.map(Notary::new).collect();
        Self {
            inner: Arc::new(Inner {
                client,
                database,
                complaints: Complaints::new(Arc::clone(&clock)),
                clock,
                own,
                notaries,
                servers: Cache::new(REMEMBERED),
                slots: Semaphore::new(QUESTIONS),
                strangers: AtomicU64::new(0),
            }),
        }
    }

    /// This server's own.
    pub(crate) fn own(&self) -> &OwnKeys {
        &self.inner.own
    }

    /// Finds keys for events: those that are known and valid long enough, else from their servers or from notaries. What isn't found
    /// is left out; what was found but isn't valid long enough is there, for the asker to judge.
    pub(crate) async fn find(&self, wanted: Vec<WantedKey>) -> KnownKeys {
        self.find_for(Purpose::Event, wanted).await
    }

    /// The same for a request that says to be of the server whose keys they are. It is asked even where it is left alone for
    /// having failed: who can't check that it speaks would else not learn that it is back.
    pub(crate) async fn find_of_sender(&self, wanted: Vec<WantedKey>) -> KnownKeys {
        self.find_for(Purpose::Request, wanted).await
    }

    async fn find_for(&self, purpose: Purpose, wanted: Vec<WantedKey>) -> KnownKeys {
        let mut by_server: HashMap<OwnedServerName, Vec<WantedKey>> = HashMap::new();
        for key in wanted {
            by_server.entry(key.server.clone()).or_default().push(key);
        }
        let each = by_server.into_iter().map(|(server, wanted)| async move {
            let found = self.find_of(purpose, &server, &wanted);
            let found = tokio::time::timeout(PATIENCE, found).await;
            let found = found.unwrap_or_default();
            found
                .into_iter()
                .map(move |(id, key)| ((server.clone(), id), key))
        });
        let found: Vec<_> = stream::iter(each).buffer_unordered(AT_ONCE).collect().await;
        found.into_iter().flatten().collect()
    }

    async fn find_of(
        &self,
        purpose: Purpose,
        server: &ServerName,
        wanted: &[WantedKey],
    ) -> BTreeMap<OwnedServerSigningKeyId, KnownKey> {
        let own = self.inner.client.own_name() == server;
        let known = match own {
            true => self.inner.own.known(self.inner.clock.now()),
            false => {
                let entry = self.inner.entry(server);
                // Others who want keys of the same server wait for this one to find them.
                let mut entry = entry.lock().await;
                self.inner
                    .refresh(purpose, server, &mut entry, wanted)
                    .await;
                entry.keys.clone()
            }
        };
        let is_wanted = |id: &OwnedServerSigningKeyId| wanted.iter().any(|key| key.key_id == *id);
        known.into_iter().filter(|(id, _)| is_wanted(id)).collect()
    }

    /// What a server published last, asked for now if what is stored doesn't hold until `valid_at`; what is stored, if the
    /// server gives nothing.
    pub(crate) async fn published(
        &self,
        server: &ServerName,
        valid_at: MilliSecondsSinceUnixEpoch,
    ) -> Option<PublishedKeysRow> {
        let stored = self.inner.stored(server).await;
        let valid_at = i64::from(valid_at.get());
        if stored
            .as_ref()
            .is_some_and(|row| row.valid_until >= valid_at)
        {
            return stored;
        }
        let entry = self.inner.entry(server);
        let mut entry = entry.lock().await;
        let now = self.inner.clock.now_ms();
        let reached_at = self.inner.reached_at(server).await;
        if !entry.is_paused(Purpose::Notary, reached_at, now) && now - entry.asked_at[0] >= FRESH_MS
        {
            self.inner
                .ask(Purpose::Notary, server, &mut entry, now)
                .await;
            return self.inner.stored(server).await;
        }
        stored
    }

    /// Asks a server for its keys, whatever is known.
    ///
    /// # Errors
    /// In a few words, why there are none.
    pub(crate) async fn ask_server(&self, server: &ServerName) -> Result<Published, String> {
        let request = get_server_keys::v2::Request::new();
        let answer = self.inner.client.probe(server, request, Effort::KEYS).await;
        let answer = answer.map_err(|error| error.to_string())?;
        Published::check(
            server,
            answer.server_key.json().get(),
            self.inner.clock.now(),
        )
    }
}

impl Inner {
    fn entry(&self, server: &ServerName) -> Arc<Mutex<ServerEntry>> {
        let servers = &self.servers;
        match servers.get(server) {
            Some(entry) => entry,
            None => {
                let fresh: Arc<Mutex<ServerEntry>> = Arc::default();
                servers.insert(server.to_owned(), Arc::clone(&fresh));
                servers.get(server).unwrap_or(fresh)
            }
        }
    }

    /// Reads or asks for what is wanted and not there.
    async fn refresh(
        &self,
        purpose: Purpose,
        server: &ServerName,
        entry: &mut ServerEntry,
        wanted: &[WantedKey],
    ) {
        self.load_once(server, entry).await;
        let lacks_some = self.ask_if_due(purpose, server, entry, wanted).await;
        // A notary isn't vouched for by another: it might be waiting for this one's keys itself.
        let is_notary = self.notaries.iter().any(|notary| notary.name == server);
        if lacks_some && !is_notary {
            self.ask_notaries(server, entry, wanted).await;
        }
        if purpose == Purpose::Event && !entry.is_kept {
            self.keep(server, entry).await;
        }
    }

    /// The keys that a notary uses now, those in question at least, as it says itself.
    async fn of_notary(
        &self,
        notary: &ServerName,
        wanted: &[WantedKey],
    ) -> BTreeMap<String, Base64> {
        let entry = self.entry(notary);
        let mut entry = entry.lock().await;
        self.load_once(notary, &mut entry).await;
        self.ask_if_due(Purpose::Notary, notary, &mut entry, wanted)
            .await;
        let now = self.clock.now();
        let in_use = entry.keys.iter().filter(|(_, key)| key.valid_until >= now);
        in_use
            .map(|(id, key)| (id.to_string(), key.key.clone()))
            .collect()
    }

    /// Reads what is stored, if that wasn't done.
    async fn load_once(&self, server: &ServerName, entry: &mut ServerEntry) {
        if entry.loaded {
            return;
        }
        match self.load(server, entry).await {
            Ok(()) => entry.loaded = true,
            Err(error) => tracing::warn!(%error, %server, "keys can't be read"),
        }
    }

    /// Reads what is stored.
    async fn load(&self, server: &ServerName, entry: &mut ServerEntry) -> Result<(), StorageError> {
        let rows = self.database.server_keys(server.as_str()).await?;
        entry.is_kept = !rows.is_empty();
        entry.add(rows.iter().filter_map(read_row));
        if entry.is_kept {
            return Ok(());
        }
        if let Some(row) = self.database.published_keys(server.as_str()).await?
            && let Ok(published) =
                Published::check_until(server, &row.json, timestamp(row.valid_until))
        {
            entry.add(published.keys);
        }
        Ok(())
    }

    /// Stores the keys of a server for good.
    async fn keep(&self, server: &ServerName, entry: &mut ServerEntry) {
        if entry.keys.is_empty() {
            return;
        }
        let stored = self
            .database
            .add_server_keys(server.as_str(), rows(&entry.keys));
        match stored.await {
            Ok(()) => entry.is_kept = true,
            Err(error) => tracing::warn!(%error, %server, "keys can't be stored"),
        }
    }

    /// Asks a server for what is wanted and not there, unless it was asked lately. Whether it was asked, and something is
    /// still missing.
    async fn ask_if_due(
        &self,
        purpose: Purpose,
        server: &ServerName,
        entry: &mut ServerEntry,
        wanted: &[WantedKey],
    ) -> bool {
        if wanted.iter().all(|key| entry.has(key)) {
            return false;
        }
        let now = self.clock.now_ms();
        if entry.is_paused(purpose, self.reached_at(server).await, now) {
            return false;
        }
        let unknown = wanted
            .iter()
            .any(|key| !entry.keys.contains_key(&key.key_id));
        let is_due = match unknown {
            true => now - entry.asked_at[AGAIN - 1] >= AGAIN_MS,
            false => now - entry.asked_at[0] >= FRESH_MS,
        };
        if !is_due {
            return false;
        }
        self.ask(purpose, server, entry, now).await;
        !wanted.iter().all(|key| entry.has(key))
    }

    /// Asks notaries for what is wanted and not there.
    async fn ask_notaries(
        &self,
        server: &ServerName,
        entry: &mut ServerEntry,
        wanted: &[WantedKey],
    ) {
        let now = self.clock.now_ms();
        let missing = wanted.iter().filter(|key| !entry.has(key)).cloned();
        let missing: Vec<WantedKey> = missing.collect();
        for notary in &self.notaries {
            match notary.ask(self, server, &missing).await {
                Ok(all) => {
                    for published in all {
                        self.take(server, entry, published, now).await;
                    }
                }
                Err(reason) => self.complain(&notary.name, "a notary gave no keys", &reason),
            }
            if wanted.iter().all(|key| entry.has(key)) {
                entry.forget_failures();
                return;
            }
        }
    }

    /// Asks the server itself.
    async fn ask(&self, purpose: Purpose, server: &ServerName, entry: &mut ServerEntry, now: i64) {
        // One that refuses transactions, and so is left alone, may be letting a user into a room all the same, whose events
        // have to be checked.
        let was_reached = now - self.reached_at(server).await < PAUSE_MS;
        let although_failing = purpose == Purpose::Request || was_reached;
        let is_spared = !although_failing && self.client.destinations().pause(server).await > 0;
        let effort = Effort {
            although_failing,
            ..Effort::KEYS
        };
        match self.directly(server, effort).await {
            Ok(published) => {
                entry.asked_at.rotate_right(1);
                entry.asked_at[0] = now;
                entry.forget_failures();
                self.take(server, entry, published, now).await;
            }
            Err(why) => {
                let (since, reason) = match why {
                    NoKeys::Unreachable(reason) if is_spared => (&mut entry.spared_at, reason),
                    NoKeys::Unreachable(reason) => (&mut entry.unreached_at, reason),
                    NoKeys::Useless(reason) => (&mut entry.failed_at, reason),
                };
                // When it is known that it failed: until then it may have been reached by others.
                *since = self.clock.now_ms();
                self.complain(server, "a server gave no keys", &reason);
            }
        }
    }

    /// When a server was last reached, with whatever it was asked; 0, if it isn't known to have been.
    async fn reached_at(&self, server: &ServerName) -> i64 {
        let destination = self.client.destinations().get(server).await;
        let reached_at = destination.health().last_success_at;
        reached_at.unwrap_or(0)
    }

    /// Says, once in a while, that something is wrong with a server.
    fn complain(&self, server: &ServerName, what: &str, reason: &str) {
        tracing::debug!(%server, reason, "{what}");
        if let Some(before) = self.complaints.is_due(server) {
            tracing::info!(%server, reason, before, "{what}; it is not said again for 10 minutes");
        }
    }

    async fn directly(&self, server: &ServerName, effort: Effort) -> Result<Published, NoKeys> {
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        let request = get_server_keys::v2::Request::new();
        let answer = self.client.send(server, request, effort).await;
        let answer = answer.map_err(|error| match error {
            RemoteError::Unreachable(reason) => NoKeys::Unreachable(reason),
            error => NoKeys::Useless(error.to_string()),
        })?;
        let json = answer.server_key.json().get();
        Published::check(server, json, self.clock.now()).map_err(NoKeys::Useless)
    }

    /// Remembers what was published.
    async fn take(
        &self,
        server: &ServerName,
        entry: &mut ServerEntry,
        published: Published,
        now: i64,
    ) {
        // Of who isn't kept, what was published will do.
        let rows = match entry.is_kept {
            true => rows(&published.keys),
            false => Vec::new(),
        };
        let row = PublishedKeysRow {
            json: published.json,
            valid_until: i64::from(published.valid_until.get()),
        };
        let stored = self
            .database
            .set_published_keys(server.as_str(), &row, now, rows);
        if let Err(error) = stored.await {
            tracing::warn!(%error, %server, "keys can't be stored");
        }
        entry.add(published.keys);
        if !entry.is_kept {
            self.forget_strangers().await;
        }
    }

    /// Removes, now and then, what is too much of servers that aren't kept.
    async fn forget_strangers(&self) {
        let count = self.strangers.fetch_add(1, Ordering::Relaxed);
        if !count.is_multiple_of(STRANGERS_STEP) {
            return;
        }
        if let Err(error) = self.database.forget_published_keys(STRANGERS).await {
            tracing::warn!(%error, "keys that nobody needs can't be removed");
        }
    }

    async fn stored(&self, server: &ServerName) -> Option<PublishedKeysRow> {
        match self.database.published_keys(server.as_str()).await {
            Ok(row) => row,
            Err(error) => {
                tracing::warn!(%error, %server, "keys can't be read");
                None
            }
        }
    }
}

fn rows(keys: &BTreeMap<OwnedServerSigningKeyId, KnownKey>) -> Vec<ServerKeyRow> {
    let rows = keys.iter().map(|(id, key)| ServerKeyRow {
        key_id: id.to_string(),
        public_key: key.key.as_bytes().to_vec(),
        valid_until: i64::from(key.valid_until.get()),
    });
    rows.collect()
}

fn read_row(row: &ServerKeyRow) -> Option<(OwnedServerSigningKeyId, KnownKey)> {
    let id = OwnedServerSigningKeyId::try_from(row.key_id.as_str()).ok()?;
    let key = KnownKey {
        key: Base64::new(row.public_key.clone()),
        valid_until: timestamp(row.valid_until),
    };
    Some((id, key))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;
    use parley_protocol::ServerKey;
    use ruma::{
        CanonicalJsonObject, api::federation::discovery::get_server_version, server_name,
        signatures::sign_json,
    };
    use serde_json::json;

    use super::*;
    use crate::outbound::testing::{NOW, Way, answer, key};

    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

    /// What a server publishes.
    pub(super) fn publish(server: &ServerName, key: &ServerKey) -> CanonicalJsonObject {
        let public = Base64::<ruma::serde::base64::Standard>::new(key.public_key().to_vec());
        let object = json!({
            "server_name": server,
            "valid_until_ts": NOW + DAY_MS,
            "verify_keys": { (format!("ed25519:{}", key.version())): { "key": public.encode() } },
            "old_verify_keys": {},
        });
        let mut object: CanonicalJsonObject = serde_json::from_value(object).unwrap();
        sign_json(server.as_str(), key.pair(), &mut object).unwrap();
        object
    }

    pub(super) fn published(object: &CanonicalJsonObject) -> Response<Bytes> {
        answer(200, serde_json::to_vec(object).unwrap())
    }

    pub(super) fn keys(way: &Way, notaries: &[&ServerName]) -> Keys {
        let clock: Arc<dyn Clock> = way.clock.clone();
        let own = Arc::new(key(way.client.own_name().to_owned()));
        let own = OwnKeys::new(own, Vec::new(), Arc::clone(&clock));
        let notaries = notaries.iter().map(|notary| (*notary).to_owned());
        let (client, database) = (way.client.clone(), way.database.clone());
        Keys::new(client, database, clock, own, notaries.collect())
    }

    pub(super) fn wanted(server: &ServerName) -> Vec<WantedKey> {
        vec![WantedKey {
            server: server.to_owned(),
            key_id: "ed25519:a".try_into().unwrap(),
            valid_at: timestamp(NOW),
        }]
    }

    #[tokio::test]
    async fn keys_are_stored_for_good_once_an_event_is_signed_with_them() {
        let way = Way::open().await;
        let pair = key(server_name!("any.example").to_owned());
        way.line
            .answer(move |server, _| published(&publish(server, &pair)));
        let (one, other) = (server_name!("one.example"), server_name!("other.example"));
        let stored = async |server: &ServerName| {
            let name = server.as_str();
            let published = way.database.published_keys(name).await.unwrap();
            let keys = way.database.server_keys(name).await.unwrap();
            (published.is_some(), keys.len())
        };
        for server in [one, other] {
            let found = keys(&way, &[]).find_of_sender(wanted(server)).await;
            assert_eq!((found.len(), way.line.carried()), (1, 1));
            // As after a restart.
            keys(&way, &[]).find_of_sender(wanted(server)).await;
            assert_eq!(way.line.carried(), 1, "it is remembered all the same");
            assert_eq!(stored(server).await, (true, 0));
            if server == one {
                keys(&way, &[]).find(wanted(server)).await;
                assert_eq!((way.line.carried(), stored(server).await), (1, (true, 1)));
            }
            way.line.forget();
        }
        way.database.forget_published_keys(1).await.unwrap();
        assert_eq!(stored(other).await, (true, 0));
        way.database.forget_published_keys(0).await.unwrap();
        assert_eq!(stored(other).await, (false, 0));
        assert_eq!(stored(one).await, (true, 1));
    }

    #[tokio::test]
    async fn a_server_that_was_not_reached_is_asked_again_once_it_has_been() {
        let way = Way::open().await;
        let server = server_name!("one.example");
        let keys = keys(&way, &[]);
        let speak = async || {
            let request = get_server_version::v1::Request::new();
            way.client.send(server, request, Effort::STEP).await.is_ok()
        };
        let find = async || keys.find(wanted(server)).await.len();
        way.line.answer(|_, _| answer(502, "{}"));
        assert_eq!((find().await, find().await, way.line.carried()), (0, 0, 1));
        let pair = key(server.to_owned());
        way.line
            .answer(move |_, request| match request.uri().path() {
                "/_matrix/key/v2/server" => published(&publish(server, &pair)),
                _ => answer(200, "{}"),
            });
        assert_eq!(
            (find().await, way.line.carried()),
            (0, 1),
            "it is left alone"
        );
        way.clock.advance(Duration::from_millis(1));
        assert!(speak().await);
        assert_eq!(find().await, 1);
    }

    #[tokio::test]
    async fn a_server_that_refuses_transactions_but_has_just_answered_is_asked_all_the_same() {
        let way = Way::open().await;
        let server = server_name!("one.example");
        let pair = key(server.to_owned());
        way.line
            .answer(move |_, _| published(&publish(server, &pair)));
        let destinations = way.client.destinations();
        let entry = destinations.get(server).await;
        let keys = keys(&way, &[]);
        destinations.failed(server, &entry, "it refuses").await;
        assert!(keys.find(wanted(server)).await.is_empty());
        way.clock.advance(Duration::from_secs(1));
        destinations.succeeded(server, &entry).await;
        destinations.failed(server, &entry, "it refuses").await;
        assert!(destinations.pause(server).await > 0);
        assert_eq!(keys.find(wanted(server)).await.len(), 1);
    }

    #[tokio::test]
    async fn a_server_that_has_just_got_a_new_key_is_asked_for_it_and_not_for_any_number_of_others()
    {
        let way = Way::open().await;
        let server = server_name!("one.example");
        let pair = key(server.to_owned());
        way.line
            .answer(move |_, _| published(&publish(server, &pair)));
        let keys = keys(&way, &[]);
        let find = async |id: &str| {
            let mut wanted = wanted(server);
            wanted[0].key_id = id.try_into().unwrap();
            keys.find(wanted).await.len()
        };
        assert_eq!(find("ed25519:old").await, 0);
        assert_eq!((find("ed25519:a").await, way.line.carried()), (1, 1));
        let new = ServerKey::from_der(server.to_owned(), &ServerKey::generate(), "b").unwrap();
        way.line
            .answer(move |_, _| published(&publish(server, &new)));
        assert_eq!((find("ed25519:b").await, way.line.carried()), (1, 2));
        for number in 0..10 {
            assert_eq!(find(&format!("ed25519:made_up_{number}")).await, 0);
        }
        assert_eq!(way.line.carried(), AGAIN);
    }

    #[tokio::test]
    async fn a_server_that_is_there_and_gives_no_keys_is_asked_for_them_once_a_minute() {
        let way = Way::open().await;
        let server = server_name!("one.example");
        let keys = keys(&way, &[]);
        way.line.answer(|_, _| answer(200, "{}"));
        for _ in 0..3 {
            assert!(keys.find(wanted(server)).await.is_empty());
            way.clock.advance(Duration::from_secs(1));
            let request = get_server_version::v1::Request::new();
            let spoken = way.client.send(server, request, Effort::STEP).await;
            assert!(spoken.is_ok());
        }
        assert_eq!(way.line.carried(), 1 + 3);
        way.clock.advance(Duration::from_secs(60));
        assert!(keys.find(wanted(server)).await.is_empty());
        assert_eq!(way.line.carried(), 2 + 3);
    }

    #[tokio::test]
    async fn of_a_server_that_publishes_other_keys_each_time_so_many_are_remembered() {
        let way = Way::open().await;
        let rows = |from: i64| {
            let rows = (from..from + 80).map(|number| ServerKeyRow {
                key_id: format!("ed25519:{number:03}"),
                public_key: vec![1; 32],
                valid_until: NOW + number,
            });
            rows.collect::<Vec<_>>()
        };
        let server = server_name!("a.example");
        for from in [0, 80] {
            let stored = way.database.add_server_keys(server.as_str(), rows(from));
            stored.await.unwrap();
        }
        let left = way.database.server_keys(server.as_str()).await.unwrap();
        assert_eq!(left.len(), MAX_KEYS);
        assert!(left.iter().all(|row| row.valid_until >= NOW + 60));
        let mut entry = ServerEntry::default();
        entry.add(rows(0).iter().chain(&rows(80)).filter_map(read_row));
        assert_eq!(entry.keys.len(), MAX_KEYS);
        let last = "ed25519:159".try_into().unwrap();
        assert!(entry.keys.contains_key::<OwnedServerSigningKeyId>(&last));
    }
}
