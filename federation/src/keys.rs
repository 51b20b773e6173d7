//! Keys of servers: what this one publishes, and what others did.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>

mod notary;
mod own;
mod published;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use parley_engine::{
    clock::{Clock, timestamp},
    remote::{KnownKey, KnownKeys, RemoteError, WantedKey},
};
use parley_storage::{
    Database,
    server_keys::{PublishedKeysRow, ServerKeyRow},
};
use quick_cache::sync::Cache;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedServerSigningKeyId, ServerName,
    api::federation::discovery::get_server_keys, serde::Base64,
};
use tokio::sync::{Mutex, Semaphore};

pub(crate) use self::{
    own::{OwnKeys, old_key},
    published::Published,
};
use crate::outbound::client::{Client, Effort};

/// Servers whose keys are in memory.
const REMEMBERED: usize = 10_000;
/// Keys of one server that are kept in memory, at most: of those that publish more, the rest is read when it's needed.
const MAX_KEYS: usize = 100;
/// Servers that are asked for keys at once, for one who wants them.
const AT_ONCE: usize = 20;
/// Servers that are asked for keys at once, for all who want them.
const QUESTIONS: usize = 50;
/// How long a server that gave no keys isn't asked again.
const PAUSE_MS: i64 = 60 * 1_000;
/// How long keys that don't hold long enough are taken for what there is.
const FRESH_MS: i64 = 5 * 60 * 1_000;
/// How long a server that has just given its keys isn't asked for one that was not among them: anyone can name any.
const AGAIN_MS: i64 = 10 * 1_000;
/// How long somebody waits for the keys of one server.
const PATIENCE: Duration = Duration::from_secs(40);

/// The keys of one server.
#[derive(Debug, Default)]
struct ServerEntry {
    /// Whether the database was read.
    loaded: bool,
    keys: BTreeMap<OwnedServerSigningKeyId, KnownKey>,
    /// When it was last asked, and gave keys or not.
    asked_at: i64,
    failed_at: i64,
    /// When it was last not asked because it fails.
    spared_at: i64,
}

/// For whom keys are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// Somebody who holds something that is signed.
    Holder,
    /// The server itself, which has just asked for something: so it is there, whatever is remembered of it.
    Itself,
}

impl ServerEntry {
    fn has(&self, wanted: &WantedKey) -> bool {
        let key = self.keys.get(&wanted.key_id);
        key.is_some_and(|key| key.valid_until >= wanted.valid_at)
    }

    /// Whether it gave no keys, or wasn't asked for them, so lately that it isn't asked now. Who asks for somebody else
    /// doesn't keep the server itself waiting.
    fn is_paused(&self, asker: Asker, now: i64) -> bool {
        let since = match asker {
            Asker::Holder => self.failed_at.max(self.spared_at),
            Asker::Itself => self.failed_at,
        };
        now - since < PAUSE_MS
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
    notaries: Vec<OwnedServerName>,
    servers: Cache<OwnedServerName, Arc<Mutex<ServerEntry>>>,
    /// Places for questions: anyone can make this server ask, by a request in the name of any server.
    slots: Semaphore,
}

impl Keys {
    pub(crate) fn new(
        client: Client,
        database: Database,
        clock: Arc<dyn Clock>,
        own: OwnKeys,
        notaries: Vec<OwnedServerName>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                client,
                database,
                clock,
                own,
                notaries,
                servers: Cache::new(REMEMBERED),
                slots: Semaphore::new(QUESTIONS),
            }),
        }
    }

    /// This server's own.
    pub(crate) fn own(&self) -> &OwnKeys {
        &self.inner.own
    }

    /// Finds keys: those that are known and valid long enough, else from their servers or from notaries. What isn't found
    /// is left out; what was found but isn't valid long enough is there, for the asker to judge.
    pub(crate) async fn find(&self, wanted: Vec<WantedKey>) -> KnownKeys {
        self.find_for(Asker::Holder, wanted).await
    }

    /// The same for a request that says to be of the server whose keys they are. It is asked even where it is left alone for
    /// having failed: who can't check that it speaks would else not learn that it is back.
    pub(crate) async fn find_of_sender(&self, wanted: Vec<WantedKey>) -> KnownKeys {
        self.find_for(Asker::Itself, wanted).await
    }

    async fn find_for(&self, asker: Asker, wanted: Vec<WantedKey>) -> KnownKeys {
        let mut by_server: HashMap<OwnedServerName, Vec<WantedKey>> = HashMap::new();
        for key in wanted {
            by_server.entry(key.server.clone()).or_default().push(key);
        }
        let each = by_server.into_iter().map(|(server, wanted)| async move {
            let found = self.find_of(asker, &server, &wanted);
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
        asker: Asker,
        server: &ServerName,
        wanted: &[WantedKey],
    ) -> BTreeMap<OwnedServerSigningKeyId, KnownKey> {
        let own = self.inner.client.own_name() == server;
        let known = match own {
            true => self.inner.own.known(self.inner.clock.now()),
            false => {
                let entry = self.entry(server);
                // Others who want keys of the same server wait for this one to find them.
                let mut entry = entry.lock().await;
                self.inner.refresh(asker, server, &mut entry, wanted).await;
                entry.keys.clone()
            }
        };
        let is_wanted = |id: &OwnedServerSigningKeyId| wanted.iter().any(|key| key.key_id == *id);
        known.into_iter().filter(|(id, _)| is_wanted(id)).collect()
    }

    fn entry(&self, server: &ServerName) -> Arc<Mutex<ServerEntry>> {
        let servers = &self.inner.servers;
        match servers.get(server) {
            Some(entry) => entry,
            None => {
                let fresh: Arc<Mutex<ServerEntry>> = Arc::default();
                servers.insert(server.to_owned(), Arc::clone(&fresh));
                servers.get(server).unwrap_or(fresh)
            }
        }
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
        let entry = self.entry(server);
        let mut entry = entry.lock().await;
        let now = self.inner.clock.now_ms();
        if !entry.is_paused(Asker::Holder, now) && now - entry.asked_at >= FRESH_MS {
            self.inner.ask(Asker::Holder, server, &mut entry, now).await;
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
    /// Reads or asks for what is wanted and not there.
    async fn refresh(
        &self,
        asker: Asker,
        server: &ServerName,
        entry: &mut ServerEntry,
        wanted: &[WantedKey],
    ) {
        if !entry.loaded {
            match self.database.server_keys(server.as_str()).await {
                Ok(rows) => {
                    entry
                        .keys
                        .extend(rows.iter().take(MAX_KEYS).filter_map(read_row));
                    entry.loaded = true;
                }
                Err(error) => tracing::warn!(%error, %server, "keys can't be read"),
            }
        }
        if wanted.iter().all(|key| entry.has(key)) {
            return;
        }
        let now = self.clock.now_ms();
        if entry.is_paused(asker, now) {
            return;
        }
        let unknown = wanted
            .iter()
            .any(|key| !entry.keys.contains_key(&key.key_id));
        let holds = if unknown { AGAIN_MS } else { FRESH_MS };
        if now - entry.asked_at < holds {
            return;
        }
        self.ask(asker, server, entry, now).await;
        let missing: Vec<&WantedKey> = wanted.iter().filter(|key| !entry.has(key)).collect();
        if missing.is_empty() {
            return;
        }
        for notary in &self.notaries {
            let found = notary::ask(&self.client, self, notary, server, &missing).await;
            match found {
                Ok(all) => {
                    for published in all {
                        self.take(server, entry, published, now).await;
                    }
                }
                Err(reason) => tracing::info!(%notary, %server, reason, "a notary gave no keys"),
            }
            if wanted.iter().all(|key| entry.has(key)) {
                (entry.failed_at, entry.spared_at) = (0, 0);
                return;
            }
        }
    }

    /// Asks the server itself.
    async fn ask(&self, asker: Asker, server: &ServerName, entry: &mut ServerEntry, now: i64) {
        let although_failing = asker == Asker::Itself;
        let is_spared = !although_failing && self.client.destinations().pause(server).await > 0;
        let effort = Effort {
            although_failing,
            ..Effort::KEYS
        };
        match self.directly(server, effort).await {
            Ok(published) => {
                entry.asked_at = now;
                (entry.failed_at, entry.spared_at) = (0, 0);
                self.take(server, entry, published, now).await;
            }
            Err(reason) => {
                match is_spared {
                    true => entry.spared_at = now,
                    false => entry.failed_at = now,
                }
                tracing::info!(%server, reason, "a server gave no keys");
            }
        }
    }

    async fn directly(&self, server: &ServerName, effort: Effort) -> Result<Published, String> {
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        let request = get_server_keys::v2::Request::new();
        let answer = self.client.send(server, request, effort).await;
        let answer = answer.map_err(|error: RemoteError| error.to_string())?;
        Published::check(server, answer.server_key.json().get(), self.clock.now())
    }

    /// Remembers what was published.
    async fn take(
        &self,
        server: &ServerName,
        entry: &mut ServerEntry,
        published: Published,
        now: i64,
    ) {
        let rows = published.keys.iter().map(|(id, key)| ServerKeyRow {
            key_id: id.to_string(),
            public_key: key.key.as_bytes().to_vec(),
            valid_until: i64::from(key.valid_until.get()),
        });
        let rows = rows.collect();
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
        entry.keys.extend(published.keys);
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

fn read_row(row: &ServerKeyRow) -> Option<(OwnedServerSigningKeyId, KnownKey)> {
    let id = OwnedServerSigningKeyId::try_from(row.key_id.as_str()).ok()?;
    let key = KnownKey {
        key: Base64::new(row.public_key.clone()),
        valid_until: timestamp(row.valid_until),
    };
    Some((id, key))
}
