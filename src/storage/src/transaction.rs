//! A transaction on either engine.

use sqlx::Postgres;

use crate::{Engine, Result, sqlite::SqliteTransaction};

/// What is written through it is there after [`Transaction::commit`], all of it or, where that fails or the
/// transaction is dropped, nothing.
#[derive(Debug)]
pub enum Transaction {
    /// On SQLite's one writing connection.
    Sqlite(SqliteTransaction),
    /// On a connection of PostgreSQL's pool.
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Transaction {
    /// Makes it durable.
    pub async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(inner) => inner.commit().await?,
            Self::Postgres(inner) => inner.commit().await?,
        }
        Ok(())
    }

    /// Undoes it, and says whether that could be told to the database. Dropping it undoes it too.
    pub async fn rollback(self) -> Result<()> {
        match self {
            Self::Sqlite(inner) => inner.rollback().await?,
            Self::Postgres(inner) => inner.rollback().await?,
        }
        Ok(())
    }

    /// The engine it runs on.
    pub fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Postgres(_) => Engine::Postgres,
        }
    }
}
