//! Reading what belongs to users: account data, receipts.

use ruma::{OwnedEventId, OwnedUserId};

use crate::{Database, Result, StorageError, commit::ReceiptWrite, statement::statement};

/// Account data of a user.
#[derive(Clone, Debug)]
pub struct AccountDataRow {
    /// Of which room; 0 for none.
    pub room_nid: i64,
    /// Its type.
    pub event_type: String,
    /// Its content, JSON.
    pub content: String,
    /// Its position.
    pub position: i64,
}

/// A receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRow {
    /// In which room.
    pub room_nid: i64,
    /// Whose.
    pub user_id: OwnedUserId,
    /// 'm.read' or 'm.read.private'.
    pub receipt_type: String,
    /// '' without thread, else 'main' or the thread's root.
    pub thread: String,
    /// Up to which event.
    pub event_id: OwnedEventId,
    /// The position of that event.
    pub event_position: i64,
    /// Milliseconds since the epoch.
    pub received_at: i64,
    /// Its position.
    pub position: i64,
}

impl From<&ReceiptWrite> for ReceiptRow {
    /// What a committed write has made.
    fn from(write: &ReceiptWrite) -> Self {
        Self {
            room_nid: write.room_nid,
            user_id: write.user_id.clone(),
            receipt_type: write.receipt_type.clone(),
            thread: write.thread.clone(),
            event_id: write.event_id.clone(),
            event_position: write.event_position,
            received_at: write.received_at,
            position: write.position.get(),
        }
    }
}

/// That account data has changed.
#[derive(Clone, Debug)]
pub struct AccountDataChange {
    /// Whose.
    pub user_nid: i64,
    /// Of which room; 0 for none.
    pub room_nid: i64,
    /// Its type.
    pub event_type: String,
    /// Its position.
    pub position: i64,
}

type AccountDataColumns = (i64, String, String, i64);

impl From<AccountDataColumns> for AccountDataRow {
    fn from((room_nid, event_type, content, position): AccountDataColumns) -> Self {
        Self {
            room_nid,
            event_type,
            content,
            position,
        }
    }
}

type ReceiptColumns = (i64, String, String, String, String, i64, i64, i64);

fn receipt(columns: ReceiptColumns) -> Result<ReceiptRow> {
    let corrupt = |error: ruma::IdParseError| StorageError::Corrupt(error.to_string());
    Ok(ReceiptRow {
        room_nid: columns.0,
        user_id: columns.1.try_into().map_err(corrupt)?,
        receipt_type: columns.2,
        thread: columns.3,
        event_id: columns.4.try_into().map_err(corrupt)?,
        event_position: columns.5,
        received_at: columns.6,
        position: columns.7,
    })
}

const SELECT_RECEIPTS: &str = "SELECT c.room_nid, u.user_id, c.receipt_type, c.thread, c.event_id, \
     c.event_position, c.received_at, c.position FROM receipts c JOIN users u ON u.nid = c.user_nid ";

impl Database {
    /// The account data of a user that changed in a stretch of the stream, of all rooms.
    pub async fn account_data_of(
        &self,
        user_nid: i64,
        after: i64,
        to: i64,
    ) -> Result<Vec<AccountDataRow>> {
        let rows: Vec<AccountDataColumns> = statement(
            "SELECT room_nid, event_type, content, position FROM account_data \
             WHERE user_nid = $1 AND position > $2 AND position <= $3 ORDER BY position",
        )
        .bind(user_nid)
        .bind(after)
        .bind(to)
        .all(self)
        .await?;
        Ok(rows.into_iter().map(AccountDataRow::from).collect())
    }

    /// The account data of a user of one room that last changed up to a position of the stream.
    pub async fn account_data_of_room(
        &self,
        user_nid: i64,
        room_nid: i64,
        to: i64,
    ) -> Result<Vec<AccountDataRow>> {
        let rows: Vec<AccountDataColumns> = statement(
            "SELECT room_nid, event_type, content, position FROM account_data \
             WHERE user_nid = $1 AND room_nid = $2 AND position <= $3 ORDER BY position",
        )
        .bind(user_nid)
        .bind(room_nid)
        .bind(to)
        .all(self)
        .await?;
        Ok(rows.into_iter().map(AccountDataRow::from).collect())
    }

    /// One piece of account data: its content.
    pub async fn account_data(
        &self,
        user_nid: i64,
        room_nid: i64,
        event_type: &str,
    ) -> Result<Option<String>> {
        let row: Option<(String,)> = statement(
            "SELECT content FROM account_data WHERE user_nid = $1 AND room_nid = $2 AND event_type = $3",
        )
        .bind(user_nid)
        .bind(room_nid)
        .bind(event_type)
        .optional(self)
        .await?;
        Ok(row.map(|(content,)| content))
    }

    /// One piece of account data, for another to be built on it: how far the stream has come, and the content.
    pub async fn account_data_to_change(
        &self,
        user_nid: i64,
        room_nid: i64,
        event_type: &str,
    ) -> Result<(i64, Option<String>)> {
        statement(
            "SELECT s.position, d.content FROM stream s LEFT JOIN account_data d \
             ON d.user_nid = $1 AND d.room_nid = $2 AND d.event_type = $3 WHERE s.id = 1",
        )
        .bind(user_nid)
        .bind(room_nid)
        .bind(event_type)
        .one(self)
        .await
    }

    /// How many pieces of account data a user has.
    pub async fn account_data_count(&self, user_nid: i64) -> Result<i64> {
        let (count,): (i64,) = statement("SELECT COUNT(*) FROM account_data WHERE user_nid = $1")
            .bind(user_nid)
            .one(self)
            .await?;
        Ok(count)
    }

    /// What account data changed in a stretch of the stream. For following what another node wrote.
    pub async fn account_data_between(
        &self,
        after: i64,
        to: i64,
    ) -> Result<Vec<AccountDataChange>> {
        let rows: Vec<(i64, i64, String, i64)> = statement(
            "SELECT user_nid, room_nid, event_type, position FROM account_data \
             WHERE position > $1 AND position <= $2 ORDER BY position",
        )
        .bind(after)
        .bind(to)
        .all(self)
        .await?;
        Ok(rows
            .into_iter()
            .map(
                |(user_nid, room_nid, event_type, position)| AccountDataChange {
                    user_nid,
                    room_nid,
                    event_type,
                    position,
                },
            )
            .collect())
    }

    /// The receipts of a room.
    pub async fn receipts_of(&self, room_nid: i64) -> Result<Vec<ReceiptRow>> {
        let rows: Vec<ReceiptColumns> = statement(format!(
            "{SELECT_RECEIPTS} WHERE c.room_nid = $1 ORDER BY c.position"
        ))
        .bind(room_nid)
        .all(self)
        .await?;
        rows.into_iter().map(receipt).collect()
    }

    /// All receipts of several rooms.
    pub async fn receipts_of_rooms(&self, room_nids: Vec<i64>) -> Result<Vec<ReceiptRow>> {
        let rows: Vec<ReceiptColumns> = statement(format!(
            "{SELECT_RECEIPTS} WHERE c.room_nid IN ({{ints $1}}) ORDER BY c.position"
        ))
        .bind(room_nids)
        .all(self)
        .await?;
        rows.into_iter().map(receipt).collect()
    }

    /// The receipts of all rooms in a stretch of the stream. For following what another node wrote.
    pub async fn receipts_between(&self, after: i64, to: i64) -> Result<Vec<ReceiptRow>> {
        let rows: Vec<ReceiptColumns> = statement(format!(
            "{SELECT_RECEIPTS} WHERE c.position > $1 AND c.position <= $2 ORDER BY c.position"
        ))
        .bind(after)
        .bind(to)
        .all(self)
        .await?;
        rows.into_iter().map(receipt).collect()
    }

    /// The rooms of a user in which a receipt came in a stretch of the stream.
    pub async fn rooms_with_receipts(
        &self,
        user_nid: i64,
        after: i64,
        to: i64,
    ) -> Result<Vec<i64>> {
        let rows: Vec<(i64,)> = statement(
            "SELECT DISTINCT c.room_nid FROM receipts c JOIN memberships m ON m.room_nid = c.room_nid \
             WHERE m.user_nid = $1 AND m.membership = 'join' AND c.position > $2 AND c.position <= $3",
        )
        .bind(user_nid)
        .bind(after)
        .bind(to)
        .all(self)
        .await?;
        Ok(rows.into_iter().map(|(room_nid,)| room_nid).collect())
    }
}
