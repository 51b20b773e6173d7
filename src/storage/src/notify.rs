//! Hearing of what other nodes write, and what nodes tell each other beside that.

use sqlx::{
    pool::PoolOptions,
    postgres::{PgListener, PgPool},
};

use crate::{Database, Result, commit::CHANNEL, database::Pools, statement::statement};

/// The channel for what isn't stored.
const FLEETING_CHANNEL: &str = "parley_fleeting";
/// The most bytes that nodes can tell each other at once.
pub const MAX_FLEETING_BYTES: usize = 7_900;

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
        Ok(Some(Notifications {
            listener: listen(pool, CHANNEL).await?,
            database: self.clone(),
        }))
    }

    /// Tells all nodes, this one included, something that isn't stored. Whoever doesn't listen just then misses it. On
    /// SQLite, where nobody else is, this does nothing.
    ///
    /// # Errors
    /// If the text is longer than [`MAX_FLEETING_BYTES`], or the database fails.
    pub async fn tell_nodes(&self, text: String) -> Result<()> {
        if let Pools::Sqlite { .. } = self.pools() {
            return Ok(());
        }
        let mut transaction = self.write().await?;
        statement("SELECT pg_notify($1, $2)")
            .bind(FLEETING_CHANNEL)
            .bind(text)
            .run(&mut transaction)
            .await?;
        transaction.commit().await
    }

    /// Begins to hear what nodes tell each other; `None` on SQLite.
    pub async fn fleeting_news(&self) -> Result<Option<FleetingNews>> {
        let Pools::Postgres(pool) = self.pools() else {
            return Ok(None);
        };
        let listener = listen(pool, FLEETING_CHANNEL).await?;
        Ok(Some(FleetingNews { listener }))
    }
}

/// Listens on a connection of its own, so that requests keep all of the pool's.
async fn listen(pool: &PgPool, channel: &str) -> Result<PgListener> {
    let options = (*pool.connect_options()).clone();
    let own = PoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&own).await?;
    listener.listen(channel).await?;
    Ok(listener)
}

/// Hears what nodes tell each other that isn't stored.
#[derive(Debug)]
pub struct FleetingNews {
    listener: PgListener,
}

impl FleetingNews {
    /// Waits for the next text; `None` if the connection was lost meanwhile, and with it maybe some.
    pub async fn next(&mut self) -> Result<Option<String>> {
        let news = self.listener.try_recv().await?;
        Ok(news.map(|news| news.payload().to_owned()))
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
