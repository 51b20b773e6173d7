//! Sessions of user-interactive authentication.

use crate::{Database, Result, Transaction, statement::statement};

/// A session of user-interactive authentication.
#[derive(Clone, Debug)]
pub struct InteractiveSession {
    /// Its ID.
    pub session_id: String,
    /// What it was begun for.
    pub operation: String,
    /// Who by, if someone was logged in.
    pub user_nid: Option<i64>,
    /// JSON: the stages done.
    pub completed: String,
    /// SHA-256 of the request.
    pub request_hash: Vec<u8>,
    /// When it was begun.
    pub created_at: i64,
    /// When it ends.
    pub expires_at: i64,
}

/// The columns of [`InteractiveSession`] after its ID.
type Columns = (String, Option<i64>, String, Vec<u8>, i64, i64);

/// A session that has not expired.
pub async fn find(
    database: &Database,
    session_id: &str,
    now: i64,
) -> Result<Option<InteractiveSession>> {
    let row: Option<Columns> = statement(
        "SELECT operation, user_nid, completed, request_hash, created_at, expires_at \
         FROM uia_sessions WHERE session_id = $1 AND expires_at > $2",
    )
    .bind(session_id)
    .bind(now)
    .optional(database)
    .await?;
    Ok(row.map(|row| InteractiveSession {
        session_id: session_id.to_owned(),
        operation: row.0,
        user_nid: row.1,
        completed: row.2,
        request_hash: row.3,
        created_at: row.4,
        expires_at: row.5,
    }))
}

/// Keeps a session, new or changed.
pub async fn put(transaction: &mut Transaction, session: &InteractiveSession) -> Result<()> {
    statement(
        "INSERT INTO uia_sessions \
         (session_id, operation, user_nid, completed, request_hash, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (session_id) DO UPDATE SET \
         completed = excluded.completed, request_hash = excluded.request_hash",
    )
    .bind(session.session_id.as_str())
    .bind(session.operation.as_str())
    .bind(session.user_nid)
    .bind(session.completed.as_str())
    .bind(session.request_hash.as_slice())
    .bind(session.created_at)
    .bind(session.expires_at)
    .run(transaction)
    .await?;
    Ok(())
}

/// Ends a session; whether there was one.
pub async fn delete(transaction: &mut Transaction, session_id: &str) -> Result<bool> {
    let ended = statement("DELETE FROM uia_sessions WHERE session_id = $1")
        .bind(session_id)
        .run(transaction)
        .await?;
    Ok(ended == 1)
}

/// Removes the sessions that have expired.
pub async fn delete_expired(transaction: &mut Transaction, now: i64) -> Result<u64> {
    statement("DELETE FROM uia_sessions WHERE expires_at <= $1")
        .bind(now)
        .run(transaction)
        .await
}
