//! What outlives a restart of presence.

use ruma::{OwnedUserId, UserId};

use crate::{
    Database, Result, StorageError,
    insert::{Column, insert},
    statement::statement,
};

/// What is kept of a user's presence.
#[derive(Clone, Debug)]
pub struct PresenceRow {
    /// Whose.
    pub user_id: OwnedUserId,
    /// What they say of themselves.
    pub status_message: Option<String>,
    /// When they last did something, milliseconds since the epoch.
    pub last_active_at: Option<i64>,
}

impl Database {
    /// What is kept of these users, in no order; of most, nothing is.
    pub async fn presence_of(&self, user_ids: &[&UserId]) -> Result<Vec<PresenceRow>> {
        let user_ids: Vec<String> = user_ids.iter().map(ToString::to_string).collect();
        let rows: Vec<(String, Option<String>, Option<i64>)> = statement(
            "SELECT u.user_id, p.status_message, p.last_active_at \
             FROM users u JOIN presence p ON p.user_nid = u.nid WHERE u.user_id IN ({texts $1})",
        )
        .bind(user_ids)
        .all(self)
        .await?;
        rows.into_iter()
            .map(|(user_id, status_message, last_active_at)| {
                Ok(PresenceRow {
                    user_id: user_id.try_into().map_err(|error: ruma::IdParseError| {
                        StorageError::Corrupt(error.to_string())
                    })?,
                    status_message,
                    last_active_at,
                })
            })
            .collect()
    }

    /// Keeps, by number of user, what they say of themselves and when they were last active.
    pub async fn keep_presence(&self, rows: Vec<(i64, Option<String>, i64)>) -> Result<()> {
        let mut columns = (vec![], vec![], vec![]);
        for (user_nid, status_message, last_active_at) in rows {
            columns.0.push(user_nid);
            columns.1.push(status_message);
            columns.2.push(last_active_at);
        }
        let mut transaction = self.write().await?;
        insert(
            &mut transaction,
            "presence (user_nid, status_message, last_active_at)",
            vec![
                Column::Int(columns.0),
                Column::OptionalText(columns.1),
                Column::Int(columns.2),
            ],
            "ON CONFLICT (user_nid) DO UPDATE SET status_message = excluded.status_message, \
             last_active_at = excluded.last_active_at",
        )
        .await?;
        transaction.commit().await
    }
}
