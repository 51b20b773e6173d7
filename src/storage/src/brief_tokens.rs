//! Tokens of a brief life beside those of sessions: by which one device logs another in, and by which a user proves to a
//! third party who they are.

use crate::{Database, Result, Transaction, statement::statement, tokens::TokenHash};

/// A token that is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewBriefToken {
    /// Its hash.
    pub hash: TokenHash,
    /// The number of its user.
    pub user_nid: i64,
    /// The present.
    pub now: i64,
    /// When it ends.
    pub expires_at: i64,
}

/// Stores a token that logs another device in. Those that have expired go.
pub async fn insert_login_token(
    transaction: &mut Transaction,
    token: &NewBriefToken,
) -> Result<()> {
    statement("DELETE FROM login_tokens WHERE expires_at <= $1")
        .bind(token.now)
        .run(transaction)
        .await?;
    statement("INSERT INTO login_tokens (token_hash, user_nid, expires_at) VALUES ($1, $2, $3)")
        .bind(token.hash.as_slice())
        .bind(token.user_nid)
        .bind(token.expires_at)
        .run(transaction)
        .await?;
    Ok(())
}

/// Uses up a token that logs another device in: the number of its user, unless it isn't there or has expired.
pub async fn take_login_token(
    transaction: &mut Transaction,
    hash: &TokenHash,
    now: i64,
) -> Result<Option<i64>> {
    let row: Option<(i64, i64)> =
        statement("DELETE FROM login_tokens WHERE token_hash = $1 RETURNING user_nid, expires_at")
            .bind(hash.as_slice())
            .optional_in(transaction)
            .await?;
    Ok(row
        .filter(|(_, expires_at)| *expires_at > now)
        .map(|(user_nid, _)| user_nid))
}

/// Stores a token for third parties. Those that have expired go.
pub async fn insert_openid_token(
    transaction: &mut Transaction,
    token: &NewBriefToken,
) -> Result<()> {
    statement("DELETE FROM openid_tokens WHERE expires_at <= $1")
        .bind(token.now)
        .run(transaction)
        .await?;
    statement("INSERT INTO openid_tokens (token_hash, user_nid, expires_at) VALUES ($1, $2, $3)")
        .bind(token.hash.as_slice())
        .bind(token.user_nid)
        .bind(token.expires_at)
        .run(transaction)
        .await?;
    Ok(())
}

/// The ID of the user who made a token for third parties, unless it isn't there, has expired, or its user may not log in
/// any more.
pub async fn openid_user(
    database: &Database,
    hash: &TokenHash,
    now: i64,
) -> Result<Option<String>> {
    let row: Option<(String,)> = statement(
        "SELECT u.user_id FROM openid_tokens t \
         JOIN users u ON u.nid = t.user_nid \
         JOIN accounts a ON a.user_nid = t.user_nid \
         WHERE t.token_hash = $1 AND t.expires_at > $2 AND a.deactivated_at IS NULL AND a.locked_at IS NULL",
    )
    .bind(hash.as_slice())
    .bind(now)
    .optional(database)
    .await?;
    Ok(row.map(|(user_id,)| user_id))
}
