//! What the indexer keeps, behind the stream: which words texts have, and when events were sent.

use crate::{
    Database, Result, Transaction,
    search::{Searchable, add_texts, remove_texts},
    statement::statement,
};

/// The texts of a stretch of the stream.
#[derive(Clone, Debug, Default)]
pub struct IndexNews {
    /// The texts.
    pub texts: Vec<Searchable>,
    /// The positions of events whose texts are gone.
    pub gone: Vec<i64>,
}

impl Database {
    /// Up to which position of the stream the indexer has come.
    pub async fn indexed_position(&self) -> Result<i64> {
        let (position,): (i64,) = statement("SELECT position FROM search_progress WHERE id = 1")
            .one(self)
            .await?;
        Ok(position)
    }

    /// Takes in a stretch of the stream, its times and its texts. `false`, and nothing is changed, if what is indexed doesn't end at `from`, as
    /// another node has moved it on.
    ///
    /// # Errors
    /// If the database fails; then nothing is changed.
    pub async fn index(&self, from: i64, to: i64, news: IndexNews) -> Result<bool> {
        let mut transaction = self.write().await?;
        // Locks the row until the end.
        let (position,): (i64,) = statement(
            "UPDATE search_progress SET position = position WHERE id = 1 RETURNING position",
        )
        .one_in(&mut transaction)
        .await?;
        if position != from {
            return Ok(false);
        }
        add_times(&mut transaction, from, to).await?;
        add_texts(&mut transaction, news.texts).await?;
        if !news.gone.is_empty() {
            remove_texts(&mut transaction, news.gone).await?;
        }
        statement("UPDATE search_progress SET position = $1 WHERE id = 1")
            .bind(to)
            .run(&mut transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// Takes in the times of the events of a stretch.
async fn add_times(transaction: &mut Transaction, from: i64, to: i64) -> Result<()> {
    // In the order of the table, so that a page is written once for all of a room.
    statement(
        "INSERT INTO event_times (room_nid, origin_server_ts, position) \
         SELECT room_nid, origin_server_ts, position FROM events WHERE position > $1 AND position <= $2 \
         ORDER BY room_nid, origin_server_ts, position",
    )
    .bind(from)
    .bind(to)
    .run(transaction)
    .await?;
    Ok(())
}
