//! The accounts of this server's users.

use crate::{Database, Engine, Result, Transaction, statement::statement, user_directory};

/// An account.
#[derive(Clone, Debug)]
pub struct AccountRow {
    /// The number of the user.
    pub user_nid: i64,
    /// The ID of the user.
    pub user_id: String,
    /// PHC string of argon2id, if there is a password.
    pub password_hash: Option<String>,
    /// `user`, `guest`, `appservice` or `server`.
    pub kind: String,
    /// Whether the user administers this server.
    pub admin: bool,
    /// When it was made.
    pub created_at: i64,
    /// When it was deactivated, if it was.
    pub deactivated_at: Option<i64>,
    /// Since when it is locked, if it is.
    pub locked_at: Option<i64>,
    /// Since when it is suspended, if it is.
    pub suspended_at: Option<i64>,
    /// Whether the user asked to be forgotten.
    pub erased: bool,
}

type Columns = (
    i64,
    String,
    Option<String>,
    String,
    bool,
    i64,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    bool,
);

const SELECT: &str = "SELECT a.user_nid, u.user_id, a.password_hash, a.kind, a.admin, a.created_at, \
     a.deactivated_at, a.locked_at, a.suspended_at, a.erased \
     FROM accounts a JOIN users u ON u.nid = a.user_nid ";

impl From<Columns> for AccountRow {
    fn from(row: Columns) -> Self {
        Self {
            user_nid: row.0,
            user_id: row.1,
            password_hash: row.2,
            kind: row.3,
            admin: row.4,
            created_at: row.5,
            deactivated_at: row.6,
            locked_at: row.7,
            suspended_at: row.8,
            erased: row.9,
        }
    }
}

/// An account that is to be made.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// The number of the user.
    pub user_nid: i64,
    /// PHC string of argon2id, if there is a password.
    pub password_hash: Option<String>,
    /// `user`, `guest`, `appservice` or `server`.
    pub kind: &'static str,
    /// Whether the user administers this server.
    pub admin: bool,
    /// The present.
    pub created_at: i64,
}

/// An account by the ID of its user.
pub async fn find(database: &Database, user_id: &str) -> Result<Option<AccountRow>> {
    let row: Option<Columns> = statement(format!("{SELECT} WHERE u.user_id = $1"))
        .bind(user_id)
        .optional(database)
        .await?;
    Ok(row.map(AccountRow::from))
}

/// An account by the number of its user.
pub async fn get(database: &Database, user_nid: i64) -> Result<Option<AccountRow>> {
    let row: Option<Columns> = statement(format!("{SELECT} WHERE a.user_nid = $1"))
        .bind(user_nid)
        .optional(database)
        .await?;
    Ok(row.map(AccountRow::from))
}

/// Has others who hold an account wait until the transaction ends: what is counted of it meanwhile stays right.
pub(crate) async fn hold(transaction: &mut Transaction, user_nid: i64) -> Result<()> {
    if transaction.engine() == Engine::Sqlite {
        // There one transaction writes at a time.
        return Ok(());
    }
    statement("SELECT user_nid FROM accounts WHERE user_nid = $1 FOR UPDATE")
        .bind(user_nid)
        .run(transaction)
        .await?;
    Ok(())
}

/// Whether an account is locked, if there is one.
pub async fn is_locked(transaction: &mut Transaction, user_nid: i64) -> Result<Option<bool>> {
    let row: Option<(Option<i64>,)> =
        statement("SELECT locked_at FROM accounts WHERE user_nid = $1")
            .bind(user_nid)
            .optional_in(transaction)
            .await?;
    Ok(row.map(|(locked_at,)| locked_at.is_some()))
}

/// Accounts with a number above `after`, at most `limit`, in order of their numbers.
pub async fn list(database: &Database, after: i64, limit: i64) -> Result<Vec<AccountRow>> {
    let rows: Vec<Columns> = statement(format!(
        "{SELECT} WHERE a.user_nid > $1 ORDER BY a.user_nid LIMIT $2"
    ))
    .bind(after)
    .bind(limit)
    .all(database)
    .await?;
    Ok(rows.into_iter().map(AccountRow::from).collect())
}

/// Makes an account, unless the user has one; whether it did.
pub async fn insert(transaction: &mut Transaction, account: &NewAccount) -> Result<bool> {
    let made = statement(
        "INSERT INTO accounts (user_nid, password_hash, kind, admin, created_at, erased, leaving) \
         VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT DO NOTHING",
    )
    .bind(account.user_nid)
    .bind(account.password_hash.clone())
    .bind(account.kind)
    .bind(account.admin)
    .bind(account.created_at)
    .bind(false)
    .run(transaction)
    .await?;
    Ok(made == 1)
}

/// A document that somebody agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedTerm {
    /// Which document.
    pub policy: String,
    /// Its version.
    pub version: String,
}

/// Notes what somebody agreed to.
pub async fn accept_terms(
    transaction: &mut Transaction,
    user_nid: i64,
    terms: &[AcceptedTerm],
    now: i64,
) -> Result<()> {
    for term in terms {
        statement(
            "INSERT INTO accepted_terms (user_nid, policy, version, accepted_at) \
             VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(user_nid)
        .bind(term.policy.as_str())
        .bind(term.version.as_str())
        .bind(now)
        .run(transaction)
        .await?;
    }
    Ok(())
}

/// Makes a guest's account that of a person. Whether it is a guest's, not deactivated.
pub async fn upgrade_guest(
    transaction: &mut Transaction,
    user_nid: i64,
    password_hash: Option<&str>,
) -> Result<bool> {
    let changed = statement(
        "UPDATE accounts SET kind = 'user', password_hash = $2 \
         WHERE user_nid = $1 AND kind = 'guest' AND deactivated_at IS NULL",
    )
    .bind(user_nid)
    .bind(password_hash)
    .run(transaction)
    .await?;
    Ok(changed == 1)
}

/// Changes or takes away the password. Whether there is such an account, not deactivated.
pub async fn set_password(
    transaction: &mut Transaction,
    user_nid: i64,
    password_hash: Option<&str>,
) -> Result<bool> {
    let changed = statement(
        "UPDATE accounts SET password_hash = $2 WHERE user_nid = $1 AND deactivated_at IS NULL",
    )
    .bind(user_nid)
    .bind(password_hash)
    .run(transaction)
    .await?;
    Ok(changed == 1)
}

/// Replaces a password's hash by another of the same password, if it is still the one that was read.
pub async fn replace_password_hash(
    transaction: &mut Transaction,
    user_nid: i64,
    before: &str,
    after: &str,
) -> Result<()> {
    statement("UPDATE accounts SET password_hash = $3 WHERE user_nid = $1 AND password_hash = $2")
        .bind(user_nid)
        .bind(before)
        .bind(after)
        .run(transaction)
        .await?;
    Ok(())
}

/// Makes someone an administrator, or takes that away. Whether there is such an account.
pub async fn set_admin(transaction: &mut Transaction, user_nid: i64, admin: bool) -> Result<bool> {
    let changed = statement("UPDATE accounts SET admin = $2 WHERE user_nid = $1")
        .bind(user_nid)
        .bind(admin)
        .run(transaction)
        .await?;
    Ok(changed == 1)
}

/// Locks an account, or with `None` opens it. Whether there is such an account.
pub async fn set_locked(
    transaction: &mut Transaction,
    user_nid: i64,
    locked_at: Option<i64>,
) -> Result<bool> {
    let changed = statement("UPDATE accounts SET locked_at = $2 WHERE user_nid = $1")
        .bind(user_nid)
        .bind(locked_at)
        .run(transaction)
        .await?;
    Ok(changed == 1)
}

/// Suspends an account, or with `None` ends that. Whether there is such an account.
pub async fn set_suspended(
    transaction: &mut Transaction,
    user_nid: i64,
    suspended_at: Option<i64>,
) -> Result<bool> {
    let changed = statement("UPDATE accounts SET suspended_at = $2 WHERE user_nid = $1")
        .bind(user_nid)
        .bind(suspended_at)
        .run(transaction)
        .await?;
    Ok(changed == 1)
}

/// Deactivates an account: its password goes, and what only serves its user. That the user has to leave all rooms is
/// noted. Whether there was such an account, not deactivated.
pub async fn deactivate(
    transaction: &mut Transaction,
    user_nid: i64,
    now: i64,
    erase: bool,
) -> Result<bool> {
    let changed = statement(
        "UPDATE accounts SET deactivated_at = $2, password_hash = NULL, admin = $4, erased = $3, leaving = $5, \
         erased_after = CASE WHEN $3 THEN (SELECT position FROM stream WHERE id = 1) END \
         WHERE user_nid = $1 AND deactivated_at IS NULL",
    )
    .bind(user_nid)
    .bind(now)
    .bind(erase)
    .bind(false)
    .bind(true)
    .run(transaction)
    .await?;
    if changed == 0 {
        return Ok(false);
    }
    statement("DELETE FROM filters WHERE user_nid = $1")
        .bind(user_nid)
        .run(transaction)
        .await?;
    statement("DELETE FROM delayed_events WHERE user_nid = $1")
        .bind(user_nid)
        .run(transaction)
        .await?;
    statement("DELETE FROM uia_sessions WHERE user_nid = $1")
        .bind(user_nid)
        .run(transaction)
        .await?;
    statement("DELETE FROM login_tokens WHERE user_nid = $1")
        .bind(user_nid)
        .run(transaction)
        .await?;
    user_directory::remove(transaction, user_nid).await?;
    if erase {
        erase_data(transaction, user_nid).await?;
    }
    Ok(true)
}

/// Removes what is kept for a user and isn't part of a room.
async fn erase_data(transaction: &mut Transaction, user_nid: i64) -> Result<()> {
    for table in [
        "profiles",
        "account_data",
        "pushers",
        "presence",
        "unread_counts",
        "accepted_terms",
        "openid_tokens",
    ] {
        statement(format!("DELETE FROM {table} WHERE user_nid = $1"))
            .bind(user_nid)
            .run(transaction)
            .await?;
    }
    Ok(())
}

/// The users who asked to be forgotten, and where the stream was then.
pub async fn erased(database: &Database) -> Result<Vec<(String, i64)>> {
    statement(
        "SELECT u.user_id, a.erased_after FROM accounts a JOIN users u ON u.nid = a.user_nid \
         WHERE a.erased_after IS NOT NULL",
    )
    .all(database)
    .await
}

/// Deactivated users who are not out of all rooms yet: number and ID.
pub async fn leaving(database: &Database) -> Result<Vec<(i64, String)>> {
    statement(
        "SELECT a.user_nid, u.user_id FROM accounts a JOIN users u ON u.nid = a.user_nid WHERE a.leaving = $1",
    )
    .bind(true)
    .all(database)
    .await
}

/// Notes that a deactivated user is out of all rooms.
pub async fn has_left(transaction: &mut Transaction, user_nid: i64) -> Result<()> {
    statement("UPDATE accounts SET leaving = $2 WHERE user_nid = $1")
        .bind(user_nid)
        .bind(false)
        .run(transaction)
        .await?;
    Ok(())
}
