//! Hearing of what other nodes write.

use sqlx::postgres::PgListener;

use crate::{Database, Result, commit::CHANNEL, database::Pools};

/// Tells of new positions that any node wrote to a shared database.
#[derive(Debug)]
pub struct Notifications {
    listener: PgListener,
    database: Database,
}

impl Database {
    /// Begins to listen; `None` on SQLite, where nobody else writes.
    pub async fn notifications(&self) -> Result<Option<Notifications>> {
        let Pools::Postgres(pool) = self.pools() else {
            return Ok(None);
        };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(Some(Notifications {
            listener,
            database: self.clone(),
        }))
    }
}

impl Notifications {
    /// Waits for the next news and gives the position that the stream has come to. News that came while the
    /// connection was lost are made up for by asking.
    pub async fn next(&mut self) -> Result<i64> {
        match self.listener.try_recv().await? {
            Some(notification) => match notification.payload().parse() {
                Ok(position) => Ok(position),
                Err(_) => self.database.stream_position().await,
            },
            None => self.database.stream_position().await,
        }
    }
}
