//! Access tokens and refresh tokens, by their hashes.

use crate::{
    Database, Result, Transaction,
    insert::{Column, insert},
    statement::statement,
};

/// SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// Whom an access token belongs to, and whether it still serves.
#[derive(Clone, Debug)]
pub struct TokenOwner {
    /// The number of the user.
    pub user_nid: i64,
    /// The ID of the user.
    pub user_id: String,
    /// The number of the device.
    pub device_nid: i64,
    /// The ID of the device.
    pub device_id: String,
    /// Which exchange of the device's tokens it came by; 0 is the login.
    pub generation: i64,
    /// Whether it was used before, or came by a login.
    pub confirmed: bool,
    /// When it ends, if by itself.
    pub expires_at: Option<i64>,
    /// The account's kind: `user`, `guest` or `appservice`.
    pub kind: String,
    /// Whether the user administers this server.
    pub admin: bool,
    /// Since when the account is locked.
    pub locked_at: Option<i64>,
    /// Since when the account is suspended.
    pub suspended_at: Option<i64>,
    /// When the device was last seen.
    pub last_seen_at: Option<i64>,
}

/// The columns of [`TokenOwner`] in order.
type OwnerRow = (
    i64,
    String,
    i64,
    String,
    i64,
    bool,
    Option<i64>,
    String,
    bool,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

/// An access token that is to be stored.
#[derive(Clone, Debug)]
pub struct NewAccessToken {
    /// Its hash.
    pub hash: TokenHash,
    /// The number of the user.
    pub user_nid: i64,
    /// The number of the device.
    pub device_nid: i64,
    /// Which exchange of the device's tokens it comes by; 0 is the login.
    pub generation: i64,
    /// The present.
    pub created_at: i64,
    /// When it ends, if by itself.
    pub expires_at: Option<i64>,
}

/// A refresh token.
#[derive(Clone, Debug)]
pub struct RefreshToken {
    /// Its hash.
    pub hash: TokenHash,
    /// The number of the user.
    pub user_nid: i64,
    /// The number of the device.
    pub device_nid: i64,
    /// Which exchange of the device's tokens it comes by; 0 is the login.
    pub generation: i64,
    /// When it was made.
    pub created_at: i64,
    /// When it ends if it isn't used.
    pub expires_at: i64,
    /// When the device has to log in again.
    pub session_expires_at: Option<i64>,
}

/// Whom an access token belongs to, if it is known.
pub async fn find_access_token(
    database: &Database,
    hash: &TokenHash,
) -> Result<Option<TokenOwner>> {
    let row: Option<OwnerRow> = statement(
        "SELECT t.user_nid, u.user_id, t.device_nid, d.device_id, t.generation, t.confirmed, t.expires_at, \
                a.kind, a.admin, a.locked_at, a.suspended_at, d.last_seen_at \
         FROM access_tokens t \
         JOIN users u ON u.nid = t.user_nid \
         JOIN accounts a ON a.user_nid = t.user_nid \
         JOIN devices d ON d.nid = t.device_nid \
         WHERE t.token_hash = $1 AND a.deactivated_at IS NULL",
    )
    .bind(hash.as_slice())
    .optional(database)
    .await?;
    Ok(row.map(|row| TokenOwner {
        user_nid: row.0,
        user_id: row.1,
        device_nid: row.2,
        device_id: row.3,
        generation: row.4,
        confirmed: row.5,
        expires_at: row.6,
        kind: row.7,
        admin: row.8,
        locked_at: row.9,
        suspended_at: row.10,
        last_seen_at: row.11,
    }))
}

/// Stores an access token.
pub async fn insert_access_token(
    transaction: &mut Transaction,
    token: &NewAccessToken,
) -> Result<()> {
    statement(
        "INSERT INTO access_tokens \
         (token_hash, user_nid, device_nid, generation, confirmed, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(token.hash.as_slice())
    .bind(token.user_nid)
    .bind(token.device_nid)
    .bind(token.generation)
    .bind(token.generation == 0)
    .bind(token.created_at)
    .bind(token.expires_at)
    .run(transaction)
    .await?;
    Ok(())
}

/// Stores a refresh token.
pub async fn insert_refresh_token(
    transaction: &mut Transaction,
    token: &RefreshToken,
) -> Result<()> {
    statement(
        "INSERT INTO refresh_tokens \
         (token_hash, user_nid, device_nid, generation, created_at, expires_at, session_expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(token.hash.as_slice())
    .bind(token.user_nid)
    .bind(token.device_nid)
    .bind(token.generation)
    .bind(token.created_at)
    .bind(token.expires_at)
    .bind(token.session_expires_at)
    .run(transaction)
    .await?;
    Ok(())
}

/// A refresh token by its hash, if it is known. Until the transaction ends, no other node exchanges it.
pub async fn find_refresh_token(
    transaction: &mut Transaction,
    hash: &TokenHash,
) -> Result<Option<RefreshToken>> {
    let row: Option<(i64, i64, i64, i64, i64, Option<i64>)> = statement(
        "UPDATE refresh_tokens SET created_at = created_at WHERE token_hash = $1 \
         RETURNING user_nid, device_nid, generation, created_at, expires_at, session_expires_at",
    )
    .bind(hash.as_slice())
    .optional_in(transaction)
    .await?;
    Ok(row.map(|row| RefreshToken {
        hash: *hash,
        user_nid: row.0,
        device_nid: row.1,
        generation: row.2,
        created_at: row.3,
        expires_at: row.4,
        session_expires_at: row.5,
    }))
}

/// Ends the tokens of a device that came before `generation`, and marks those of it as used. Gives the hashes of the
/// access tokens that ended.
pub async fn confirm_generation(
    transaction: &mut Transaction,
    device_nid: i64,
    generation: i64,
) -> Result<Vec<Vec<u8>>> {
    statement("UPDATE access_tokens SET confirmed = $3 WHERE device_nid = $1 AND generation = $2")
        .bind(device_nid)
        .bind(generation)
        .bind(true)
        .run(transaction)
        .await?;
    statement("DELETE FROM refresh_tokens WHERE device_nid = $1 AND generation < $2")
        .bind(device_nid)
        .bind(generation)
        .run(transaction)
        .await?;
    let ended: Vec<(Vec<u8>,)> = statement(
        "DELETE FROM access_tokens WHERE device_nid = $1 AND generation < $2 RETURNING token_hash",
    )
    .bind(device_nid)
    .bind(generation)
    .all_in(transaction)
    .await?;
    Ok(ended.into_iter().map(|(hash,)| hash).collect())
}

/// Removes the tokens of a device that came after `generation`: a pair whose receiver never used it.
pub async fn delete_later_generations(
    transaction: &mut Transaction,
    device_nid: i64,
    generation: i64,
) -> Result<Vec<Vec<u8>>> {
    statement("DELETE FROM refresh_tokens WHERE device_nid = $1 AND generation > $2")
        .bind(device_nid)
        .bind(generation)
        .run(transaction)
        .await?;
    let ended: Vec<(Vec<u8>,)> = statement(
        "DELETE FROM access_tokens WHERE device_nid = $1 AND generation > $2 RETURNING token_hash",
    )
    .bind(device_nid)
    .bind(generation)
    .all_in(transaction)
    .await?;
    Ok(ended.into_iter().map(|(hash,)| hash).collect())
}

/// Removes all tokens of the devices. Gives the hashes of their access tokens.
pub async fn delete_of_devices(
    transaction: &mut Transaction,
    device_nids: Vec<i64>,
) -> Result<Vec<Vec<u8>>> {
    statement("DELETE FROM refresh_tokens WHERE device_nid IN ({ints $1})")
        .bind(device_nids.clone())
        .run(transaction)
        .await?;
    let ended: Vec<(Vec<u8>,)> =
        statement("DELETE FROM access_tokens WHERE device_nid IN ({ints $1}) RETURNING token_hash")
            .bind(device_nids)
            .all_in(transaction)
            .await?;
    Ok(ended.into_iter().map(|(hash,)| hash).collect())
}

/// Keeps challenges of the shared-secret registration.
pub async fn insert_nonce(
    transaction: &mut Transaction,
    nonce: &str,
    now: i64,
    expires_at: i64,
) -> Result<()> {
    statement("DELETE FROM registration_nonces WHERE expires_at <= $1")
        .bind(now)
        .run(transaction)
        .await?;
    insert(
        transaction,
        "registration_nonces (nonce, expires_at)",
        vec![
            Column::Text(vec![nonce.to_owned()]),
            Column::Int(vec![expires_at]),
        ],
        "",
    )
    .await
}

/// Uses up a challenge; whether it was there and has not expired.
pub async fn take_nonce(transaction: &mut Transaction, nonce: &str, now: i64) -> Result<bool> {
    let taken = statement("DELETE FROM registration_nonces WHERE nonce = $1 AND expires_at > $2")
        .bind(nonce)
        .bind(now)
        .run(transaction)
        .await?;
    Ok(taken == 1)
}
