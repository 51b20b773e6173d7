//! Checkpoints of what users haven't read.

use crate::{
    Database, Result,
    insert::{Column, insert},
    statement::statement,
};

/// How much of a thread of a room a user hasn't read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadRow {
    /// Whose.
    pub user_nid: i64,
    /// Of which room.
    pub room_nid: i64,
    /// 'main' or the thread's root.
    pub thread: String,
    /// The position up to which the user has read it.
    pub read_to: i64,
    /// The position up to which it was counted.
    pub counted_to: i64,
    /// Events that notify.
    pub notifications: i64,
    /// Those of them that are highlighted.
    pub highlights: i64,
}

impl Database {
    /// The checkpoints of a user in rooms: for each room, a row for each thread, all counted up to the same position.
    pub async fn unread_checkpoints(
        &self,
        user_nid: i64,
        room_nids: Vec<i64>,
    ) -> Result<Vec<UnreadRow>> {
        let rows: Vec<(i64, String, i64, i64, i64, i64)> = statement(
            "SELECT room_nid, thread, read_to, counted_to, notifications, highlights FROM unread_counts \
             WHERE user_nid = $1 AND room_nid IN ({ints $2})",
        )
        .bind(user_nid)
        .bind(room_nids)
        .all(self)
        .await?;
        let row = |row: (i64, String, i64, i64, i64, i64)| UnreadRow {
            user_nid,
            room_nid: row.0,
            thread: row.1,
            read_to: row.2,
            counted_to: row.3,
            notifications: row.4,
            highlights: row.5,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Puts checkpoints in the place of those that were there of the same users in the same rooms.
    pub async fn save_unread_checkpoints(&self, checkpoints: Vec<Vec<UnreadRow>>) -> Result<()> {
        let mut transaction = self.write().await?;
        for row in checkpoints.iter().filter_map(|rows| rows.first()) {
            statement("DELETE FROM unread_counts WHERE user_nid = $1 AND room_nid = $2")
                .bind(row.user_nid)
                .bind(row.room_nid)
                .run(&mut transaction)
                .await?;
        }
        let rows: Vec<UnreadRow> = checkpoints.into_iter().flatten().collect();
        let ints = |value: fn(&UnreadRow) -> i64| Column::Int(rows.iter().map(value).collect());
        let columns = vec![
            ints(|row| row.user_nid),
            ints(|row| row.room_nid),
            Column::Text(rows.iter().map(|row| row.thread.clone()).collect()),
            ints(|row| row.read_to),
            ints(|row| row.counted_to),
            ints(|row| row.notifications),
            ints(|row| row.highlights),
        ];
        insert(
            &mut transaction,
            "unread_counts (user_nid, room_nid, thread, read_to, counted_to, notifications, highlights)",
            columns,
            "",
        )
        .await?;
        transaction.commit().await
    }
}
