//! Tokens that let those who have one register.

use crate::{Database, Result, Transaction, statement::statement};

/// A registration token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationToken {
    /// The token itself.
    pub token: String,
    /// How often it may be used; `None` is as often as one likes.
    pub uses_allowed: Option<i64>,
    /// How often it was used.
    pub uses_completed: i64,
    /// When it ends.
    pub expires_at: Option<i64>,
}

type Columns = (String, Option<i64>, i64, Option<i64>);

impl From<Columns> for RegistrationToken {
    fn from(row: Columns) -> Self {
        Self {
            token: row.0,
            uses_allowed: row.1,
            uses_completed: row.2,
            expires_at: row.3,
        }
    }
}

/// All tokens, by their text.
pub async fn list(database: &Database) -> Result<Vec<RegistrationToken>> {
    let rows: Vec<Columns> = statement(
        "SELECT token, uses_allowed, uses_completed, expires_at FROM registration_tokens ORDER BY token",
    )
    .all(database)
    .await?;
    Ok(rows.into_iter().map(RegistrationToken::from).collect())
}

/// A token, if there is one.
pub async fn find(database: &Database, token: &str) -> Result<Option<RegistrationToken>> {
    let row: Option<Columns> = statement(
        "SELECT token, uses_allowed, uses_completed, expires_at FROM registration_tokens WHERE token = $1",
    )
    .bind(token)
    .optional(database)
    .await?;
    Ok(row.map(RegistrationToken::from))
}

/// Makes a token; whether it is new.
pub async fn insert(transaction: &mut Transaction, token: &RegistrationToken) -> Result<bool> {
    let made = statement(
        "INSERT INTO registration_tokens (token, uses_allowed, uses_completed, expires_at) \
         VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(token.token.as_str())
    .bind(token.uses_allowed)
    .bind(token.uses_completed)
    .bind(token.expires_at)
    .run(transaction)
    .await?;
    Ok(made == 1)
}

/// Changes how often a token may be used and when it ends; whether there is one.
pub async fn update(transaction: &mut Transaction, token: &RegistrationToken) -> Result<bool> {
    let changed = statement(
        "UPDATE registration_tokens SET uses_allowed = $2, expires_at = $3 WHERE token = $1",
    )
    .bind(token.token.as_str())
    .bind(token.uses_allowed)
    .bind(token.expires_at)
    .run(transaction)
    .await?;
    Ok(changed == 1)
}

/// Removes a token; whether there was one.
pub async fn delete(transaction: &mut Transaction, token: &str) -> Result<bool> {
    let removed = statement("DELETE FROM registration_tokens WHERE token = $1")
        .bind(token)
        .run(transaction)
        .await?;
    Ok(removed == 1)
}

/// Counts one use of a token; whether it was good for one more.
pub async fn take(transaction: &mut Transaction, token: &str, now: i64) -> Result<bool> {
    let taken = statement(
        "UPDATE registration_tokens SET uses_completed = uses_completed + 1 \
         WHERE token = $1 AND (uses_allowed IS NULL OR uses_completed < uses_allowed) \
         AND (expires_at IS NULL OR expires_at > $2)",
    )
    .bind(token)
    .bind(now)
    .run(transaction)
    .await?;
    Ok(taken == 1)
}
