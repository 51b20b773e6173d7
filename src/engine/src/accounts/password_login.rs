//! Proving by a password who one is.

use parley_storage::accounts::{self, AccountRow};
use ruma::{OwnedUserId, UserId};

use super::{Account, Accounts};
use crate::{EngineError, Result, limits::Action, passwords::Verdict};

impl Accounts {
    /// The account that a user names by ID or localpart, in any case, if the password is theirs. An account that doesn't
    /// exist is refused like a wrong password, and after as long a time.
    ///
    /// # Errors
    /// `M_FORBIDDEN`; `M_USER_LOCKED`; `M_LIMIT_EXCEEDED` after too many attempts to guess.
    pub async fn log_in_by_password(&self, user: &str, password: &str) -> Result<Account> {
        let user_id = self.named_user(user);
        // Also for names that can't exist, so that they aren't answered any sooner.
        let key = user_id.as_ref().map_or(user, |id| id.as_str());
        self.limits.check(Action::LoginFailure, key)?;
        let row = match &user_id {
            Some(user_id) => accounts::find(&self.database, user_id.as_str()).await?,
            None => None,
        };
        let row = self.verify(row, password).await?.ok_or_else(wrong)?;
        self.limits.forget(Action::LoginFailure, key);
        if row.locked_at.is_some() {
            return Err(EngineError::user_locked());
        }
        Account::from_row(row)
    }

    /// Whether a password is that of a user who is logged in.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` after too many attempts to guess.
    pub(crate) async fn is_password_of(&self, user_id: &UserId, password: &str) -> Result<bool> {
        self.limits.check(Action::LoginFailure, user_id.as_str())?;
        let row = accounts::find(&self.database, user_id.as_str()).await?;
        let right = self.verify(row, password).await?.is_some();
        if right {
            self.limits.forget(Action::LoginFailure, user_id.as_str());
        }
        Ok(right)
    }

    /// The user of this server that someone means by an ID or a localpart, in any case.
    pub(crate) fn named_user(&self, name: &str) -> Option<OwnedUserId> {
        let name = name.to_ascii_lowercase();
        let server_name = &self.settings.server_name;
        // Null characters are in the historical grammar of user IDs, but not in PostgreSQL.
        let user_id = UserId::parse_with_server_name(&name, server_name)
            .ok()
            .filter(|user_id| user_id.server_name() == server_name)?;
        (!user_id.as_str().contains('\0')).then_some(user_id)
    }

    /// Gives the account back if the password is right. Hashes it anew where settings have changed since.
    async fn verify(&self, row: Option<AccountRow>, password: &str) -> Result<Option<AccountRow>> {
        let stored = row.as_ref().and_then(|row| row.password_hash.as_deref());
        let verdict = self.passwords.verify(password, stored).await?;
        let Some(row) = row.filter(|_| verdict != Verdict::Wrong) else {
            return Ok(None);
        };
        if let (Verdict::RightButOutdated, Some(before)) = (verdict, &row.password_hash) {
            let after = self.passwords.hash(password).await?;
            let mut transaction = self.database.write().await?;
            accounts::replace_password_hash(&mut transaction, row.user_nid, before, &after).await?;
            transaction.commit().await?;
        }
        Ok(Some(row))
    }
}

fn wrong() -> EngineError {
    EngineError::forbidden("the user name or the password is wrong")
}
