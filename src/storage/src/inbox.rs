//! What other servers sent and what isn't worked through yet.

use std::collections::HashSet;

use parley_protocol::EventKey;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName};

use crate::{
    Database, Result, Transaction,
    insert::{Column, insert},
    rooms::read,
    statement::statement,
};

/// An event that another server sent.
#[derive(Clone, Debug)]
pub struct Received {
    /// The room that it is of.
    pub room_id: OwnedRoomId,
    /// The server that sent it.
    pub origin: OwnedServerName,
    /// Its id.
    pub event_id: OwnedEventId,
    /// The PDU as it came.
    pub json: String,
}

/// An event that another server sent and that isn't worked through.
#[derive(Clone, Debug)]
pub struct InboxRow {
    /// Its number in the inbox.
    pub nid: i64,
    /// The server that sent it.
    pub origin: String,
    /// The PDU as it came.
    pub json: String,
    /// How often it was tried in vain to work through it.
    pub attempts: i64,
}

/// What a group of writes puts into the inbox, and takes out of it.
#[derive(Debug, Default)]
pub(crate) struct InboxRows {
    /// In the order in which it came.
    received: Vec<Received>,
    /// One statement can't put a row in twice; of an event that came twice, the first stays.
    known: HashSet<(OwnedRoomId, OwnedEventId, OwnedServerName)>,
    done: Vec<i64>,
}

impl InboxRows {
    pub(crate) fn add(&mut self, received: &[Received], done: &[i64]) {
        for event in received {
            let key = (
                event.room_id.clone(),
                event.event_id.clone(),
                event.origin.clone(),
            );
            if self.known.insert(key) {
                self.received.push(event.clone());
            }
        }
        self.done.extend(done);
    }

    pub(crate) async fn store(self, transaction: &mut Transaction) -> Result<()> {
        let mut columns = (vec![], vec![], vec![], vec![]);
        for event in self.received {
            columns.0.push(event.room_id.to_string());
            columns.1.push(event.origin.to_string());
            columns.2.push(EventKey::new(&event.event_id).into_bytes());
            columns.3.push(event.json);
        }
        insert(
            transaction,
            "inbox (room_id, origin, event_id, json)",
            vec![
                Column::Text(columns.0),
                Column::Text(columns.1),
                Column::Bytes(columns.2),
                Column::Text(columns.3),
            ],
            "ON CONFLICT (room_id, event_id, origin) DO UPDATE SET retry_at = 0",
        )
        .await?;
        if !self.done.is_empty() {
            statement("DELETE FROM inbox WHERE nid IN ({ints $1})")
                .bind(self.done)
                .run(transaction)
                .await?;
        }
        Ok(())
    }
}

impl Database {
    /// What of a room's inbox may be tried at the time `now`, in the order in which it came, at most `limit`.
    pub async fn inbox(&self, room_id: &RoomId, now: i64, limit: i64) -> Result<Vec<InboxRow>> {
        let rows: Vec<(i64, String, String, i64)> = statement(
            "SELECT nid, origin, json, attempts FROM inbox WHERE room_id = $1 AND retry_at <= $2 \
             ORDER BY nid LIMIT $3",
        )
        .bind(room_id.as_str())
        .bind(now)
        .bind(limit)
        .all(self)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(nid, origin, json, attempts)| InboxRow {
                nid,
                origin,
                json,
                attempts,
            })
            .collect())
    }

    /// Those of some rooms for which more than `most` events wait.
    pub async fn full_inboxes(
        &self,
        rooms: impl IntoIterator<Item = &RoomId>,
        most: i64,
    ) -> Result<HashSet<OwnedRoomId>> {
        let rooms: Vec<String> = rooms.into_iter().map(ToString::to_string).collect();
        let rows: Vec<(String,)> = statement(
            "SELECT room_id FROM inbox WHERE room_id IN ({texts $1}) GROUP BY room_id HAVING COUNT(*) > $2",
        )
        .bind(rooms)
        .bind(most)
        .all(self)
        .await?;
        rows.into_iter().map(|(room_id,)| read(room_id)).collect()
    }

    /// When something of a room's inbox is to be tried again next, in milliseconds since the epoch; `None` if nothing waits.
    pub async fn next_inbox_retry(&self, room_id: &RoomId) -> Result<Option<i64>> {
        let (at,): (Option<i64>,) = statement("SELECT MIN(retry_at) FROM inbox WHERE room_id = $1")
            .bind(room_id.as_str())
            .one(self)
            .await?;
        Ok(at)
    }

    /// How much that a server sent of a room waits to be tried again.
    pub async fn inbox_retries(&self, room_id: &RoomId, origin: &ServerName) -> Result<i64> {
        let (count,): (i64,) = statement(
            "SELECT COUNT(*) FROM inbox WHERE room_id = $1 AND origin = $2 AND attempts > 0",
        )
        .bind(room_id.as_str())
        .bind(origin.as_str())
        .one(self)
        .await?;
        Ok(count)
    }

    /// The rooms in whose inbox something waits.
    pub async fn rooms_with_inbox(&self) -> Result<Vec<OwnedRoomId>> {
        let rows: Vec<(String,)> = statement("SELECT DISTINCT room_id FROM inbox")
            .all(self)
            .await?;
        rows.into_iter().map(|(room_id,)| read(room_id)).collect()
    }

    /// Has events in the inbox not be tried before a time, in milliseconds since the epoch, without counting that as an attempt.
    pub async fn postpone_inbox(&self, later: Vec<i64>, until: i64) -> Result<()> {
        let mut transaction = self.write().await?;
        statement("UPDATE inbox SET retry_at = $2 WHERE nid IN ({ints $1})")
            .bind(later)
            .bind(until)
            .run(&mut transaction)
            .await?;
        transaction.commit().await
    }

    /// Notes what of the inbox is to be tried later: after `wait` milliseconds the first time, twice as long each time.
    pub async fn retry_inbox(&self, later: Vec<i64>, now: i64, wait: i64) -> Result<()> {
        let mut transaction = self.write().await?;
        statement(
            "UPDATE inbox SET attempts = attempts + 1, \
             retry_at = $2 + $3 * (CAST(1 AS BIGINT) << CAST(attempts AS INTEGER)) WHERE nid IN ({ints $1})",
        )
        .bind(later)
        .bind(now)
        .bind(wait)
        .run(&mut transaction)
        .await?;
        transaction.commit().await
    }
}
