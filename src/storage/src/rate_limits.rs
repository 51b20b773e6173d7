//! Users whose rate limits aren't the usual ones.

use crate::{Database, Result, Transaction, statement::statement};

/// The limit of one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimitOverride {
    /// Whose it is.
    pub user_nid: i64,
    /// How often they may do something in the long run; 0: as often as they like.
    pub per_second: i64,
    /// How often at once.
    pub burst: i64,
}

/// All of them.
pub async fn list(database: &Database) -> Result<Vec<RateLimitOverride>> {
    let rows: Vec<(i64, i64, i64)> =
        statement("SELECT user_nid, per_second, burst FROM rate_limit_overrides")
            .all(database)
            .await?;
    let limit = |(user_nid, per_second, burst)| RateLimitOverride {
        user_nid,
        per_second,
        burst,
    };
    Ok(rows.into_iter().map(limit).collect())
}

/// Sets a user's limit.
pub async fn set(transaction: &mut Transaction, limit: RateLimitOverride) -> Result<()> {
    statement(
        "INSERT INTO rate_limit_overrides (user_nid, per_second, burst) VALUES ($1, $2, $3) \
         ON CONFLICT (user_nid) DO UPDATE SET per_second = excluded.per_second, burst = excluded.burst",
    )
    .bind(limit.user_nid)
    .bind(limit.per_second)
    .bind(limit.burst)
    .run(transaction)
    .await?;
    Ok(())
}

/// Gives a user the usual limits again.
pub async fn remove(transaction: &mut Transaction, user_nid: i64) -> Result<()> {
    statement("DELETE FROM rate_limit_overrides WHERE user_nid = $1")
        .bind(user_nid)
        .run(transaction)
        .await?;
    Ok(())
}
