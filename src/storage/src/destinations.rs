//! How it goes with other servers, and what they lack.

use crate::{
    Database, Result, Transaction,
    insert::{Column, insert},
    statement::statement,
};

/// What is known of a server. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationRow {
    /// When its failures began; `None` if it was reached when it was last tried.
    pub failing_since: Option<i64>,
    /// How often in a row it wasn't reached.
    pub failures: i64,
    /// Before when it isn't tried again, unless somebody waits for it.
    pub retry_at: Option<i64>,
    /// When it was last reached, roughly.
    pub last_success_at: Option<i64>,
    /// Why it wasn't reached last time.
    pub last_error: Option<String>,
}

/// A room of which a server lacks something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BacklogRow {
    /// The room.
    pub room_nid: i64,
    /// Of events, the newest that it must get, even if it is no longer in the room. Of receipts, the oldest that it lacks.
    pub position: i64,
}

/// What servers lack: the name of each, and what it lacks.
pub type Lacking = Vec<(String, BacklogRow)>;

/// What the sender has to note.
#[derive(Clone, Debug, Default)]
pub struct SenderNotes {
    /// Up to which position everything was sent or is in the backlogs; `None` if that stays.
    pub position: Option<i64>,
    /// Events that servers lack.
    pub events: Lacking,
    /// Receipts that servers lack.
    pub receipts: Lacking,
}

type Columns = (Option<i64>, i64, Option<i64>, Option<i64>, Option<String>);

/// The name, [`Columns`], and how many rooms are in the backlog.
type Listed = (
    String,
    Option<i64>,
    i64,
    Option<i64>,
    Option<i64>,
    Option<String>,
    i64,
);

fn row(columns: Columns) -> DestinationRow {
    let (failing_since, failures, retry_at, last_success_at, last_error) = columns;
    DestinationRow {
        failing_since,
        failures,
        retry_at,
        last_success_at,
        last_error,
    }
}

impl Database {
    /// What is known of a server.
    pub async fn destination(&self, server_name: &str) -> Result<Option<DestinationRow>> {
        let columns = statement(
            "SELECT failing_since, failures, retry_at, last_success_at, last_error \
             FROM destinations WHERE server_name = $1",
        );
        let columns: Option<Columns> = columns.bind(server_name).optional(self).await?;
        Ok(columns.map(row))
    }

    /// All servers that something is known of, by name, each with the number of rooms that it lacks something of.
    pub async fn destinations(&self) -> Result<Vec<(String, DestinationRow, i64)>> {
        let rows: Vec<Listed> = statement(
            "SELECT d.server_name, d.failing_since, d.failures, d.retry_at, d.last_success_at, d.last_error, \
             (SELECT COUNT(*) FROM backlogs b WHERE b.server_name = d.server_name) \
             FROM destinations d ORDER BY d.server_name",
        )
        .all(self)
        .await?;
        let split = |(name, since, failures, retry, success, error, rooms)| {
            (name, row((since, failures, retry, success, error)), rooms)
        };
        Ok(rows.into_iter().map(split).collect())
    }

    /// Remembers what is known of a server.
    pub async fn set_destination(&self, server_name: &str, row: &DestinationRow) -> Result<()> {
        let mut transaction = self.write().await?;
        statement(
            "INSERT INTO destinations (server_name, failing_since, failures, retry_at, last_success_at, last_error) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (server_name) DO UPDATE SET \
             failing_since = excluded.failing_since, failures = excluded.failures, retry_at = excluded.retry_at, \
             last_success_at = excluded.last_success_at, last_error = excluded.last_error",
        )
        .bind(server_name)
        .bind(row.failing_since)
        .bind(row.failures)
        .bind(row.retry_at)
        .bind(row.last_success_at)
        .bind(row.last_error.clone())
        .run(&mut transaction)
        .await?;
        transaction.commit().await
    }

    /// Forgets servers that lack nothing and weren't spoken with, nor were to be, since `before`.
    pub async fn forget_destinations(&self, before: i64) -> Result<()> {
        let mut transaction = self.write().await?;
        statement(
            "DELETE FROM destinations WHERE COALESCE(last_success_at, 0) < $1 AND COALESCE(retry_at, 0) < $1 \
             AND NOT EXISTS (SELECT 1 FROM backlogs b WHERE b.server_name = destinations.server_name) \
             AND NOT EXISTS (SELECT 1 FROM receipt_backlogs r WHERE r.server_name = destinations.server_name)",
        )
        .bind(before)
        .run(&mut transaction)
        .await?;
        transaction.commit().await
    }

    /// Up to which position everything was sent or is in the backlogs, if `node` may send until `lease_until`, which is
    /// so if no other node may, as of `now`.
    pub async fn lease_sender(
        &self,
        node: &str,
        now: i64,
        lease_until: i64,
    ) -> Result<Option<i64>> {
        let mut transaction = self.write().await?;
        let position: Option<(i64,)> = statement(
            "UPDATE sender SET node = $1, lease_until = $2 \
             WHERE id = 1 AND (node IS NULL OR node = $1 OR lease_until < $3) RETURNING position",
        )
        .bind(node)
        .bind(lease_until)
        .bind(now)
        .optional_in(&mut transaction)
        .await?;
        transaction.commit().await?;
        Ok(position.map(|(position,)| position))
    }

    /// Notes how far the sender has come, and what servers lack. `false`, and nothing is noted, if another node sends
    /// meanwhile.
    pub async fn note_sent(&self, node: &str, notes: SenderNotes) -> Result<bool> {
        let mut transaction = self.write().await?;
        let noted = statement(
            "UPDATE sender SET position = COALESCE($2, position) WHERE id = 1 AND node = $1",
        )
        .bind(node)
        .bind(notes.position)
        .run(&mut transaction)
        .await?;
        if noted == 0 {
            return Ok(false);
        }
        if let Some(position) = notes.position {
            statement("DELETE FROM passed_on WHERE position <= $1")
                .bind(position)
                .run(&mut transaction)
                .await?;
        }
        note_lacking(
            &mut transaction,
            "backlogs (server_name, room_nid, position)",
            notes.events,
            "ON CONFLICT (server_name, room_nid) DO UPDATE SET position = excluded.position",
        )
        .await?;
        note_lacking(
            &mut transaction,
            "receipt_backlogs (server_name, room_nid, position)",
            notes.receipts,
            "ON CONFLICT (server_name, room_nid) DO UPDATE SET position = CASE \
             WHEN excluded.position < receipt_backlogs.position THEN excluded.position \
             ELSE receipt_backlogs.position END",
        )
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Lets another node send at once.
    pub async fn end_lease(&self, node: &str) -> Result<()> {
        let mut transaction = self.write().await?;
        statement("UPDATE sender SET node = NULL, lease_until = 0 WHERE id = 1 AND node = $1")
            .bind(node)
            .run(&mut transaction)
            .await?;
        transaction.commit().await
    }

    /// The servers that lack something.
    pub async fn servers_with_backlog(&self) -> Result<Vec<String>> {
        let rows: Vec<(String,)> = statement(
            "SELECT server_name FROM backlogs UNION SELECT server_name FROM receipt_backlogs",
        )
        .all(self)
        .await?;
        Ok(rows.into_iter().map(|(name,)| name).collect())
    }

    /// From where each of these events was taken that are to be passed on to the others in their rooms: position and
    /// server.
    pub async fn passed_on(&self, positions: Vec<i64>) -> Result<Vec<(i64, String)>> {
        statement("SELECT position, origin FROM passed_on WHERE position IN ({ints $1})")
            .bind(positions)
            .all(self)
            .await
    }

    /// Rooms that a server lacks events of, `limit` at most.
    pub async fn backlog(&self, server_name: &str, limit: i64) -> Result<Vec<BacklogRow>> {
        self.backlog_in("backlogs", server_name, limit).await
    }

    /// Rooms that a server lacks receipts of, `limit` at most.
    pub async fn receipt_backlog(&self, server_name: &str, limit: i64) -> Result<Vec<BacklogRow>> {
        self.backlog_in("receipt_backlogs", server_name, limit)
            .await
    }

    async fn backlog_in(
        &self,
        table: &str,
        server_name: &str,
        limit: i64,
    ) -> Result<Vec<BacklogRow>> {
        let rows: Vec<(i64, i64)> = statement(format!(
            "SELECT room_nid, position FROM {table} WHERE server_name = $1 ORDER BY position LIMIT $2"
        ))
        .bind(server_name)
        .bind(limit)
        .all(self)
        .await?;
        let row = |(room_nid, position)| BacklogRow { room_nid, position };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Notes that a server no longer lacks events of rooms.
    pub async fn end_backlog(&self, server_name: &str, rooms: Vec<i64>) -> Result<()> {
        self.end_backlog_in("backlogs", server_name, rooms).await
    }

    /// Notes that a server no longer lacks receipts of rooms.
    pub async fn end_receipt_backlog(&self, server_name: &str, rooms: Vec<i64>) -> Result<()> {
        self.end_backlog_in("receipt_backlogs", server_name, rooms)
            .await
    }

    async fn end_backlog_in(&self, table: &str, server_name: &str, rooms: Vec<i64>) -> Result<()> {
        let mut transaction = self.write().await?;
        statement(format!(
            "DELETE FROM {table} WHERE server_name = $1 AND room_nid IN ({{ints $2}})"
        ))
        .bind(server_name)
        .bind(rooms)
        .run(&mut transaction)
        .await?;
        transaction.commit().await
    }
}

async fn note_lacking(
    transaction: &mut Transaction,
    into: &'static str,
    lacking: Lacking,
    conflict: &'static str,
) -> Result<()> {
    let (mut names, mut rooms, mut positions) = (Vec::new(), Vec::new(), Vec::new());
    for (name, row) in lacking {
        names.push(name);
        rooms.push(row.room_nid);
        positions.push(row.position);
    }
    let columns = vec![
        Column::Text(names),
        Column::Int(rooms),
        Column::Int(positions),
    ];
    insert(transaction, into, columns, conflict).await
}
