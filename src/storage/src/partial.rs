//! Rooms that this server came into without being told who is in them.

use ruma::OwnedRoomId;

use crate::{Database, Engine, Result, Transaction, rooms::read, statement::statement};

/// A room that lacks members.
#[derive(Clone, Debug)]
pub struct PartialRow {
    /// The room.
    pub room_nid: i64,
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Where the join stands by which this server came into it.
    pub join_position: i64,
    /// The snapshot after the join, which lacks them.
    pub snapshot: i64,
    /// JSON array: the servers in the room at the join, that by which it was joined first.
    pub servers: String,
    /// How often they were asked for in vain.
    pub attempts: i64,
    /// Whether the snapshot has got what it lacked, so that what came since may have been judged again, as far as somebody got.
    pub filled: bool,
}

/// An event that was refused.
#[derive(Clone, Debug)]
pub struct RefusedRow {
    /// Its number.
    pub position: i64,
    /// Its id.
    pub event_id: ruma::OwnedEventId,
}

impl Database {
    /// The rooms that lack members and may be worked on at the time `now`, at most `limit`, those that wait longest first.
    pub async fn due_partial_rooms(&self, now: i64, limit: i64) -> Result<Vec<PartialRow>> {
        let rows: Vec<(i64, String, i64, i64, String, i64, bool)> = statement(
            "SELECT p.room_nid, r.room_id, p.join_position, p.snapshot, p.servers, p.attempts, p.filled \
             FROM partial_rooms p JOIN rooms r ON r.nid = p.room_nid \
             WHERE p.completed_position IS NULL AND p.retry_at <= $1 ORDER BY p.retry_at LIMIT $2",
        )
        .bind(now)
        .bind(limit)
        .all(self)
        .await?;
        rows.into_iter()
            .map(
                |(room_nid, room_id, join_position, snapshot, servers, attempts, filled)| {
                    Ok(PartialRow {
                        room_nid,
                        room_id: read(room_id)?,
                        join_position,
                        snapshot,
                        servers,
                        attempts,
                        filled,
                    })
                },
            )
            .collect()
    }

    /// When the next of them may be worked on, in milliseconds since the epoch; `None` if there is none.
    pub async fn next_partial_retry(&self) -> Result<Option<i64>> {
        let (at,): (Option<i64>,) =
            statement("SELECT MIN(retry_at) FROM partial_rooms WHERE completed_position IS NULL")
                .one(self)
                .await?;
        Ok(at.filter(|at| *at < i64::MAX))
    }

    /// Takes a room to work on until a time. Whether nobody else has.
    pub async fn take_partial_room(&self, row: &PartialRow, now: i64, until: i64) -> Result<bool> {
        let mut transaction = self.write().await?;
        let taken = statement(
            "UPDATE partial_rooms SET retry_at = $4 WHERE room_nid = $1 AND snapshot = $2 AND retry_at <= $3 \
             AND completed_position IS NULL",
        )
        .bind(row.room_nid)
        .bind(row.snapshot)
        .bind(now)
        .bind(until)
        .run(&mut transaction)
        .await?;
        transaction.commit().await?;
        Ok(taken > 0)
    }

    /// Says when a room may be worked on again, and how often that was in vain. Whether it is still to be done.
    pub async fn set_partial_retry(&self, row: &PartialRow, retry_at: i64) -> Result<bool> {
        let mut transaction = self.write().await?;
        let set = statement(
            "UPDATE partial_rooms SET retry_at = $3, attempts = $4 WHERE room_nid = $1 AND snapshot = $2 \
             AND completed_position IS NULL",
        )
        .bind(row.room_nid)
        .bind(row.snapshot)
        .bind(retry_at)
        .bind(row.attempts)
        .run(&mut transaction)
        .await?;
        transaction.commit().await?;
        Ok(set > 0)
    }

    /// Has a room be worked on at once, if it lacks members.
    pub async fn wake_partial_room(&self, room_nid: i64) -> Result<bool> {
        let mut transaction = self.write().await?;
        let set = statement(
            "UPDATE partial_rooms SET retry_at = 0, attempts = 0 \
             WHERE room_nid = $1 AND completed_position IS NULL",
        )
        .bind(room_nid)
        .run(&mut transaction)
        .await?;
        transaction.commit().await?;
        Ok(set > 0)
    }

    /// At start: has all of them be worked on at once, where nobody else can be at it.
    pub async fn free_partial_rooms(&self) -> Result<()> {
        if self.engine() == Engine::Postgres {
            return Ok(());
        }
        let mut transaction = self.write().await?;
        statement("UPDATE partial_rooms SET retry_at = 0 WHERE completed_position IS NULL")
            .run(&mut transaction)
            .await?;
        transaction.commit().await
    }

    /// Puts events into the places of a room's snapshot in which nothing stands: so it, and all that are built on it, get what
    /// it lacked. They are state events that are stored, by their numbers.
    pub async fn fill_snapshot(&self, row: &PartialRow, events: Vec<i64>) -> Result<()> {
        let mut transaction = self.write().await?;
        statement("UPDATE partial_rooms SET filled = TRUE WHERE room_nid = $1 AND snapshot = $2")
            .bind(row.room_nid)
            .bind(row.snapshot)
            .run(&mut transaction)
            .await?;
        for table in ["outliers", "events"] {
            statement(format!(
                "INSERT INTO state_deltas (snapshot, slot_nid, event_position) \
                 SELECT $1, slot_nid, position FROM {table} \
                 WHERE position IN ({{ints $2}}) AND slot_nid IS NOT NULL \
                 ON CONFLICT (snapshot, slot_nid) DO NOTHING"
            ))
            .bind(row.snapshot)
            .bind(events.clone())
            .run(&mut transaction)
            .await?;
        }
        transaction.commit().await
    }

    /// The rooms that began or ceased to lack members in a stretch of the stream.
    pub async fn partial_rooms_between(
        &self,
        after: i64,
        to: i64,
    ) -> Result<Vec<(i64, Option<i64>)>> {
        statement(
            "SELECT room_nid, completed_position FROM partial_rooms \
             WHERE (join_position > $1 AND join_position <= $2) \
             OR (completed_position > $1 AND completed_position <= $2)",
        )
        .bind(after)
        .bind(to)
        .all(self)
        .await
    }

    /// The events of a room that were refused since a position, softly or not, in order, at most `limit`.
    pub async fn refused_since(
        &self,
        room_nid: i64,
        after: i64,
        limit: i64,
    ) -> Result<Vec<RefusedRow>> {
        let rows: Vec<(i64, Vec<u8>)> = statement(
            "SELECT position, event_id FROM outliers WHERE room_nid = $1 AND position > $2 \
             AND standing IN ('soft_failed', 'rejected') ORDER BY position LIMIT $3",
        )
        .bind(room_nid)
        .bind(after)
        .bind(limit)
        .all(self)
        .await?;
        rows.into_iter()
            .map(|(position, event_id)| {
                Ok(RefusedRow {
                    position,
                    event_id: crate::events::read_event_id(&event_id)?,
                })
            })
            .collect()
    }
}

/// Notes that a room lacks members, or that it doesn't.
pub(crate) async fn begin(
    transaction: &mut Transaction,
    room_nid: i64,
    join: i64,
    snapshot: i64,
    servers: Option<String>,
) -> Result<()> {
    let Some(servers) = servers else {
        // Of a room that never lacked members there is no row; where there is one, other nodes learn by it.
        statement(
            "UPDATE partial_rooms SET join_position = $2, snapshot = $3, completed_position = $2, servers = '[]' \
             WHERE room_nid = $1",
        )
        .bind(room_nid)
        .bind(join)
        .bind(snapshot)
        .run(transaction)
        .await?;
        return Ok(());
    };
    statement(
        "INSERT INTO partial_rooms (room_nid, join_position, snapshot, servers, attempts, retry_at) \
         VALUES ($1, $2, $3, $4, 0, 0) ON CONFLICT (room_nid) DO UPDATE SET \
         join_position = excluded.join_position, snapshot = excluded.snapshot, servers = excluded.servers, \
         attempts = 0, retry_at = 0, filled = FALSE, completed_position = NULL",
    )
    .bind(room_nid)
    .bind(join)
    .bind(snapshot)
    .bind(servers)
    .run(transaction)
    .await?;
    Ok(())
}

/// Notes since when a room lacks nothing; with `is_apart`, as this server isn't in it any more.
pub(crate) async fn end(
    transaction: &mut Transaction,
    room_nid: i64,
    position: i64,
    is_apart: bool,
) -> Result<()> {
    // Who comes back asks the servers that are there.
    statement(match is_apart {
        true => "UPDATE partial_rooms SET completed_position = $2 WHERE room_nid = $1",
        false => {
            "UPDATE partial_rooms SET completed_position = $2, servers = '[]' WHERE room_nid = $1"
        }
    })
    .bind(room_nid)
    .bind(position)
    .run(transaction)
    .await?;
    Ok(())
}
