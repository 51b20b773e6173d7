//! Opening the database: one folder with SQLite in it, or an address of PostgreSQL.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use sqlx::{
    Connection, PgConnection, PgPool,
    pool::PoolOptions,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{
    Result, StorageError, Transaction, migrations,
    names::Names,
    sqlite::{ACQUIRE_TIMEOUT, Connections, SqliteTransaction, Turns},
};

/// The name of the SQLite database in the data folder.
const SQLITE_FILE: &str = "parley.db";
/// The file whose lock says that a process uses the folder.
const LOCK_FILE: &str = "parley.lock";
/// A multiple of the page size, 4 KiB: the log is folded into the database when it has so many pages. Larger is faster
/// and makes the slowest commit slower; measured in docs/performance.md.
const CHECKPOINT_PAGES: u32 = 4000;
/// The share of the writer's page cache that each reader has. What readers lack is in the operating system's cache.
const READER_SHARE: u32 = 4;

/// Which engine a database runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// SQLite, in the data folder.
    Sqlite,
    /// PostgreSQL 13 or later.
    Postgres,
}

/// Where the database is and how much of the machine it may use.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// The folder of the server's data. Locked as long as the database is open, if the database lies in it.
    pub data_dir: PathBuf,
    /// `postgres://...`; `None` is SQLite in the data folder.
    pub url: Option<String>,
    /// Reading connections of SQLite; connections of PostgreSQL, beside two that listen to what other nodes do.
    pub connections: u32,
    /// Page cache of the SQLite connection that writes, in KiB; those that read have a quarter of it each.
    pub sqlite_cache_kib: u32,
    /// For simulations: who goes first when SQLite has answered. `None`: whoever the threads of the runtime get to first.
    pub turns: Option<Turns>,
}

impl DatabaseSettings {
    /// SQLite in `data_dir`, with the usual sizes.
    pub fn sqlite(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            url: None,
            connections: 4,
            sqlite_cache_kib: 8 * 1024,
            turns: None,
        }
    }
}

/// The connections of an engine.
#[derive(Clone, Debug)]
pub(crate) enum Pools {
    Sqlite {
        readers: Arc<Connections>,
        writer: Arc<Connections>,
    },
    Postgres(PgPool),
}

/// An open database. Cheap to clone; all clones are the same database.
#[derive(Clone, Debug)]
pub struct Database {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pools: Pools,
    names: Names,
    /// Holds the folder's lock; released when the last clone is gone.
    _lock: Option<File>,
}

impl Database {
    /// Opens the database, makes it if it isn't there, and brings it to this version.
    ///
    /// # Errors
    /// Says in a sentence for the administrator what is wrong: the folder in use or not writable, a disk that is full,
    /// a database of a newer version, an address that is wrong or doesn't answer.
    pub async fn open(settings: &DatabaseSettings) -> Result<Self> {
        let (pools, lock) = match &settings.url {
            None => {
                let lock = lock_folder(&settings.data_dir)?;
                (open_sqlite(settings), Some(lock))
            }
            Some(url) => (open_postgres(url, settings).await?, None),
        };
        match &pools {
            Pools::Sqlite { writer, .. } => {
                migrations::run(Engine::Sqlite, writer.take().await?.driver()).await?;
            }
            Pools::Postgres(pool) => migrations::run(Engine::Postgres, pool).await?,
        }
        Ok(Self {
            inner: Arc::new(Inner {
                pools,
                names: Names::new(),
                _lock: lock,
            }),
        })
    }

    /// Begins a transaction that writes. On SQLite there is one at a time; the others wait.
    pub async fn write(&self) -> Result<Transaction> {
        Ok(match self.pools() {
            Pools::Sqlite { writer, .. } => {
                Transaction::Sqlite(SqliteTransaction::begin(writer).await?)
            }
            Pools::Postgres(pool) => Transaction::Postgres(pool.begin().await?),
        })
    }

    /// The engine it runs on.
    pub fn engine(&self) -> Engine {
        match self.pools() {
            Pools::Sqlite { .. } => Engine::Sqlite,
            Pools::Postgres(_) => Engine::Postgres,
        }
    }

    /// Finishes what is under way and closes all connections.
    pub async fn close(&self) {
        match self.pools() {
            Pools::Sqlite { readers, writer } => {
                readers.close().await;
                writer.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.inner.pools
    }

    pub(crate) fn names(&self) -> &Names {
        &self.inner.names
    }
}

/// Makes the folder and takes its lock.
fn lock_folder(folder: &Path) -> Result<File> {
    let failed = |source| StorageError::Folder {
        path: folder.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(LOCK_FILE))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn open_sqlite(settings: &DatabaseSettings) -> Pools {
    let options = SqliteConnectOptions::new()
        .filename(settings.data_dir.join(SQLITE_FILE))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .busy_timeout(ACQUIRE_TIMEOUT)
        .statement_cache_capacity(256);
    let cache = |kib: u32| format!("-{kib}");
    let writes = options
        .clone()
        .pragma("cache_size", cache(settings.sqlite_cache_kib))
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string());
    let reads = options
        .pragma(
            "cache_size",
            cache(settings.sqlite_cache_kib / READER_SHARE),
        )
        .pragma("query_only", "1");
    Pools::Sqlite {
        readers: Connections::new(reads, settings.connections, settings.turns.clone()),
        writer: Connections::new(writes, 1, settings.turns.clone()),
    }
}

async fn open_postgres(url: &str, settings: &DatabaseSettings) -> Result<Pools> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| StorageError::Address(error.to_string()))?
        .application_name("parley")
        .statement_cache_capacity(256);
    let pool = PoolOptions::new()
        .max_connections(settings.connections.max(2))
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .connect_with(options.clone())
        .await;
    match pool {
        Ok(pool) => Ok(Pools::Postgres(pool)),
        // The pool has tried for a while and doesn't say what was in the way.
        Err(sqlx::Error::PoolTimedOut) => match PgConnection::connect_with(&options).await {
            Ok(_) => Err(sqlx::Error::PoolTimedOut.into()),
            Err(reason) => Err(reason.into()),
        },
        Err(error) => Err(error.into()),
    }
}
