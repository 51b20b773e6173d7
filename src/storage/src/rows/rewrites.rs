//! What changes of rows that are stored.

use crate::{Result, Transaction, partial, relations, statement::statement};

#[derive(Debug, Default)]
pub(super) struct Rewrites {
    /// Position, and the snapshot before it.
    rejected: Vec<(i64, i64)>,
    /// Position, and the snapshot after it.
    restated: Vec<(i64, i64)>,
    completed: Vec<Completed>,
}

/// A room of whose state nothing is missing any more.
#[derive(Debug)]
pub(super) struct Completed {
    pub(super) room_nid: i64,
    pub(super) position: i64,
    pub(super) newest: i64,
    pub(super) current_snapshot: i64,
    pub(super) is_apart: bool,
}

impl Rewrites {
    pub(super) fn reject(&mut self, position: i64, snapshot: i64) {
        self.rejected.push((position, snapshot));
    }

    pub(super) fn restate(&mut self, position: i64, snapshot: i64) {
        self.restated.push((position, snapshot));
    }

    pub(super) fn complete(&mut self, completed: Completed) {
        self.completed.push(completed);
    }

    /// Writes them. There are few of them, and seldom any.
    pub(super) async fn store(self, transaction: &mut Transaction) -> Result<()> {
        for (position, snapshot) in self.rejected {
            move_out(transaction, position, snapshot).await?;
        }
        for (position, snapshot) in self.restated {
            for text in [
                "UPDATE events SET snapshot = $2 WHERE position = $1",
                "UPDATE outliers SET snapshot = $2 WHERE position = $1",
            ] {
                let statement = statement(text).bind(position).bind(snapshot);
                statement.run(transaction).await?;
            }
        }
        for completed in self.completed {
            statement(
                "UPDATE events SET current_snapshot = $2 \
                 WHERE position = $1 AND COALESCE(current_snapshot, snapshot) <> $2",
            )
            .bind(completed.newest)
            .bind(completed.current_snapshot)
            .run(transaction)
            .await?;
            let Completed {
                room_nid,
                position,
                is_apart,
                ..
            } = completed;
            partial::end(transaction, room_nid, position, is_apart).await?;
        }
        Ok(())
    }
}

/// Takes an event out of the timeline, to the others that the rules refuse.
async fn move_out(transaction: &mut Transaction, position: i64, snapshot: i64) -> Result<()> {
    relations::forget(transaction, position).await?;
    statement(
        "INSERT INTO outliers (position, room_nid, event_id, slot_nid, depth, standing, snapshot, json) \
         SELECT position, room_nid, event_id, slot_nid, depth, 'rejected', $2, json FROM events WHERE position = $1 \
         ON CONFLICT (event_id) DO UPDATE SET standing = excluded.standing, snapshot = excluded.snapshot",
    )
    .bind(position)
    .bind(snapshot)
    .run(transaction)
    .await?;
    for text in [
        "DELETE FROM event_times WHERE position = $1 AND (room_nid, origin_server_ts) IN \
         (SELECT room_nid, origin_server_ts FROM events WHERE position = $1)",
        "DELETE FROM events WHERE position = $1",
    ] {
        statement(text).bind(position).run(transaction).await?;
    }
    Ok(())
}
