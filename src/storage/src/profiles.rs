//! Profiles of users.

use crate::{Database, Result, Transaction, accounts, statement::statement};

impl Database {
    /// The fields of a user's profile, with their values as JSON.
    pub async fn profile(&self, user_nid: i64) -> Result<Vec<(String, String)>> {
        statement("SELECT field, value FROM profiles WHERE user_nid = $1 ORDER BY field")
            .bind(user_nid)
            .all(self)
            .await
    }

    /// How often a user's name or picture has changed.
    pub async fn profile_revision(&self, user_nid: i64) -> Result<i64> {
        let row: Option<(i64,)> =
            statement("SELECT revision FROM profile_changes WHERE user_nid = $1")
                .bind(user_nid)
                .optional(self)
                .await?;
        Ok(row.map_or(0, |(revision,)| revision))
    }

    /// Notes that the user's rooms have been told of a change; false if there is a later one.
    pub async fn profile_is_told(&self, user_nid: i64, revision: i64) -> Result<bool> {
        let mut transaction = self.write().await?;
        let noted =
            statement("UPDATE profile_changes SET told = $2 WHERE user_nid = $1 AND revision = $2")
                .bind(user_nid)
                .bind(revision)
                .run(&mut transaction)
                .await?;
        transaction.commit().await?;
        Ok(noted == 1)
    }

    /// Users whose rooms haven't been told yet what their name or picture is.
    pub async fn untold_profiles(&self) -> Result<Vec<(i64, String)>> {
        statement(
            "SELECT c.user_nid, u.user_id FROM profile_changes c JOIN users u ON u.nid = c.user_nid \
             WHERE c.revision > c.told ORDER BY c.user_nid",
        )
        .all(self)
        .await
    }
}

/// Notes that a user's name or picture changes.
pub async fn note_change(transaction: &mut Transaction, user_nid: i64) -> Result<()> {
    statement(
        "INSERT INTO profile_changes (user_nid, revision, told) VALUES ($1, 1, 0) \
         ON CONFLICT (user_nid) DO UPDATE SET revision = profile_changes.revision + 1",
    )
    .bind(user_nid)
    .run(transaction)
    .await?;
    Ok(())
}

/// One field of a user's profile, its value as JSON.
pub async fn find(database: &Database, user_nid: i64, field: &str) -> Result<Option<String>> {
    let row: Option<(String,)> =
        statement("SELECT value FROM profiles WHERE user_nid = $1 AND field = $2")
            .bind(user_nid)
            .bind(field)
            .optional(database)
            .await?;
    Ok(row.map(|(value,)| value))
}

/// Sets a field to a value, JSON.
pub async fn set(
    transaction: &mut Transaction,
    user_nid: i64,
    field: &str,
    value: &str,
) -> Result<()> {
    statement(
        "INSERT INTO profiles (user_nid, field, value) VALUES ($1, $2, $3) \
         ON CONFLICT (user_nid, field) DO UPDATE SET value = excluded.value",
    )
    .bind(user_nid)
    .bind(field)
    .bind(value)
    .run(transaction)
    .await?;
    Ok(())
}

/// Removes a field; whether it was there.
pub async fn delete(transaction: &mut Transaction, user_nid: i64, field: &str) -> Result<bool> {
    let removed = statement("DELETE FROM profiles WHERE user_nid = $1 AND field = $2")
        .bind(user_nid)
        .bind(field)
        .run(transaction)
        .await?;
    Ok(removed == 1)
}

/// Fields of a profile and their values together, in bytes. As long as the transaction lasts, others wait for it to measure
/// them.
pub async fn size(transaction: &mut Transaction, user_nid: i64) -> Result<i64> {
    accounts::hold(transaction, user_nid).await?;
    let rows: Vec<(String, String)> =
        statement("SELECT field, value FROM profiles WHERE user_nid = $1")
            .bind(user_nid)
            .all_in(transaction)
            .await?;
    let size: usize = rows
        .iter()
        .map(|(field, value)| json_size(field, value))
        .sum();
    Ok(i64::try_from(size).unwrap_or(i64::MAX))
}

/// What a field takes in a JSON object: itself, quotes, colon, comma.
fn json_size(field: &str, value: &str) -> usize {
    field.len() + value.len() + 4
}
