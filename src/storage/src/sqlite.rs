//! Connections to SQLite: few, kept open, each with a thread of its own by the driver.
//!
//! The driver's own pool asks a connection after each use whether it's still there, by a task of its own and a trip to the
//! connection's thread and back. That is for servers far away; here it made each statement two trips, and left to chance
//! when a connection is free again. So they are kept here. See `docs/performance.md` for what that is worth.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    executor::block_on,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    ConnectOptions, Connection as _, Either, Execute, Executor, SqlStr, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteQueryResult, SqliteRow, SqliteStatement, SqliteTypeInfo},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a request waits for a free connection before it fails.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";

/// Draws how many times other tasks have their turn before a task goes on with an answer of the database.
///
/// For simulations. The thread that asks SQLite waits for the answer, so that no other thread's speed decides the order in
/// which tasks go on: who draws the turns does.
#[derive(Clone)]
pub struct Turns(Arc<dyn Fn() -> u32 + Send + Sync>);

impl Turns {
    /// Drawn by `draw`.
    pub fn new(draw: impl Fn() -> u32 + Send + Sync + 'static) -> Self {
        Self(Arc::new(draw))
    }

    async fn take(&self) {
        for _ in 0..(self.0)() {
            tokio::task::yield_now().await;
        }
    }
}

/// The answer to a question: when it's there, or on the spot and after the turns of others.
async fn answer<T>(turns: Option<&Turns>, question: impl Future<Output = T>) -> T {
    let Some(turns) = turns else {
        return question.await;
    };
    let answer = block_on(question);
    turns.take().await;
    answer
}

impl fmt::Debug for Turns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Turns")
    }
}

/// Connections of one kind, opened when they are needed.
#[derive(Debug)]
pub(crate) struct Connections {
    options: SqliteConnectOptions,
    most: u32,
    free: Arc<Semaphore>,
    /// The one used last is used next: what it has in its cache is fresh.
    idle: Mutex<Vec<Idle>>,
    turns: Option<Turns>,
}

impl Connections {
    /// `most` connections at once.
    pub(crate) fn new(options: SqliteConnectOptions, most: u32, turns: Option<Turns>) -> Arc<Self> {
        Arc::new(Self {
            options,
            most,
            free: Arc::new(Semaphore::new(most as usize)),
            idle: Mutex::default(),
            turns,
        })
    }

    /// Waits for a connection; whoever waits longest gets the next.
    ///
    /// # Errors
    /// If none is free for [`ACQUIRE_TIMEOUT`], the database is closed, or a new connection can't be opened.
    pub(crate) async fn take(self: &Arc<Self>) -> sqlx::Result<Connection> {
        let permit = Arc::clone(&self.free).acquire_owned();
        let permit = tokio::time::timeout(ACQUIRE_TIMEOUT, permit)
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?
            .map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.idle().pop();
        let idle = match idle {
            Some(idle) => idle,
            None => Idle {
                connection: answer(self.turns.as_ref(), self.options.connect()).await?,
                is_in_transaction: false,
            },
        };
        Ok(Connection {
            driver: Some(idle.connection),
            is_in_transaction: idle.is_in_transaction,
            home: Arc::clone(self),
            _permit: permit,
        })
    }

    /// Asks something of the next that is free.
    ///
    /// # Errors
    /// As [`Connections::take`], and if the question can't be answered. A connection whose thread has ended is replaced.
    pub(crate) async fn read<T>(
        self: &Arc<Self>,
        question: impl AsyncFnOnce(&mut Connection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        let mut connection = self.take().await?;
        let answer = question(&mut connection).await;
        if let Err(sqlx::Error::WorkerCrashed) = answer {
            connection.discard().await;
        }
        answer
    }

    /// Waits until all are free, and closes them.
    pub(crate) async fn close(&self) {
        // An error means that they are closed already.
        let Ok(_all) = self.free.acquire_many(self.most).await else {
            return;
        };
        self.free.close();
        let idle = std::mem::take(&mut *self.idle());
        for idle in idle {
            let closed = answer(self.turns.as_ref(), idle.connection.close()).await;
            if let Err(error) = closed {
                tracing::warn!(%error, "a connection to the database wasn't closed as it should be");
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that nobody uses, and how it was left.
#[derive(Debug)]
struct Idle {
    connection: SqliteConnection,
    /// Whether it may be in a transaction that nobody has ended.
    is_in_transaction: bool,
}

/// A connection in use. Dropped, it's free for the next, even while the thread behind it still works on what nobody waits
/// for any more: it does one thing after the other.
#[derive(Debug)]
pub(crate) struct Connection {
    /// `None` only while it's being dropped.
    driver: Option<SqliteConnection>,
    is_in_transaction: bool,
    home: Arc<Connections>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// The driver's connection, whose answers come when they come.
    pub(crate) fn driver(&mut self) -> &mut SqliteConnection {
        self.driver.as_mut().expect("it's there until it's dropped")
    }

    /// Closes it instead of giving it back; another will be opened for the next.
    pub(crate) async fn discard(mut self) {
        let Some(driver) = self.driver.take() else {
            return;
        };
        let closed = answer(self.home.turns.as_ref(), driver.close_hard()).await;
        if let Err(error) = closed {
            tracing::debug!(%error, "a connection that is of no use any more couldn't be closed");
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(connection) = self.driver.take() {
            self.home.idle().push(Idle {
                connection,
                is_in_transaction: self.is_in_transaction,
            });
        }
    }
}

/// One statement as the driver takes it, its answer when it's there or, with [`Turns`], on the spot.
impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Sqlite;

    fn fetch_many<'e, 'q, E>(
        self,
        query: E,
    ) -> BoxStream<'e, sqlx::Result<Either<SqliteQueryResult, SqliteRow>>>
    where
        'c: 'e,
        E: Execute<'q, Sqlite>,
        'q: 'e,
        E: 'q,
    {
        let turns = self.home.turns.clone();
        let rows = self.driver().fetch_many(query);
        match turns {
            None => rows,
            Some(turns) => async move { answer(Some(&turns), rows.collect::<Vec<_>>()).await }
                .map(stream::iter)
                .flatten_stream()
                .boxed(),
        }
    }

    fn fetch_optional<'e, 'q, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<SqliteRow>>>
    where
        'c: 'e,
        E: Execute<'q, Sqlite>,
        'q: 'e,
        E: 'q,
    {
        let turns = self.home.turns.clone();
        let row = self.driver().fetch_optional(query);
        match turns {
            None => row,
            Some(turns) => async move { answer(Some(&turns), row).await }.boxed(),
        }
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        _: &[SqliteTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<SqliteStatement>>
    where
        'c: 'e,
    {
        let turns = self.home.turns.clone();
        // SQLite has no use for the types of parameters.
        let prepared = self.driver().prepare_with(sql, &[]);
        async move { answer(turns.as_ref(), prepared).await }.boxed()
    }
}

/// A transaction on the connection that writes.
#[derive(Debug)]
pub struct SqliteTransaction {
    connection: Connection,
}

impl SqliteTransaction {
    /// Begins a transaction that writes, on one of `writers`.
    ///
    /// One that was dropped before its end is undone first. It may have ended all the same: SQLite undoes it by itself where
    /// there is no space left, and a commit happens also if nobody waits for it any more.
    pub(crate) async fn begin(writers: &Arc<Connections>) -> sqlx::Result<Self> {
        const BEGIN: &str = "BEGIN IMMEDIATE";
        let mut connection = writers.take().await?;
        let is_left = std::mem::replace(&mut connection.is_in_transaction, true);
        if is_left && let Err(error) = (&mut connection).execute(sqlx::query(ROLLBACK)).await {
            tracing::debug!(%error, "what was left of a transaction can't be undone");
        }
        match (&mut connection).execute(sqlx::query(BEGIN)).await {
            Err(error) if is_left => {
                tracing::warn!(%error, "the connection that writes is opened anew");
                connection.discard().await;
                connection = writers.take().await?;
                connection.is_in_transaction = true;
                (&mut connection).execute(sqlx::query(BEGIN)).await?;
            }
            begun => {
                begun?;
            }
        }
        Ok(Self { connection })
    }

    /// Makes it durable.
    pub(crate) async fn commit(self) -> sqlx::Result<()> {
        self.end(COMMIT).await
    }

    /// Undoes it.
    pub(crate) async fn rollback(self) -> sqlx::Result<()> {
        self.end(ROLLBACK).await
    }

    async fn end(mut self, how: &'static str) -> sqlx::Result<()> {
        (&mut self.connection).execute(sqlx::query(how)).await?;
        self.connection.is_in_transaction = false;
        Ok(())
    }

    /// What its statements run on.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }
}
