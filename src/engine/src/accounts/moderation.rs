//! What administrators may know of accounts and do to them.

use ruma::UserId;

use super::{Account, Accounts, no_such_account};
use crate::{EngineError, Result, sessions::Session};

impl Accounts {
    /// The account that an administrator wants to lock or suspend, or to know whether it is.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if it isn't an administrator who asks, or is one who is asked about; `M_INVALID_PARAM` if the user is
    /// one of another server; `M_NOT_FOUND` if there is no such account or it is deactivated.
    pub async fn moderated(&self, session: &Session, user_id: &UserId) -> Result<Account> {
        // First: who isn't an administrator doesn't learn who has an account.
        session.must_be_admin()?;
        let account = self.own_account(user_id).await?;
        if account.admin {
            return Err(EngineError::forbidden(
                "administrators can't be locked or suspended",
            ));
        }
        Ok(account)
    }

    /// The account whose devices an administrator wants to know, or its own user.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if it is someone else who asks; `M_INVALID_PARAM` if the user is one of another server;
    /// `M_NOT_FOUND` if there is no such account or it is deactivated.
    pub async fn whois(&self, session: &Session, user_id: &UserId) -> Result<Account> {
        if session.user_id != user_id {
            session.must_be_admin()?;
        }
        self.own_account(user_id).await
    }

    async fn own_account(&self, user_id: &UserId) -> Result<Account> {
        if user_id.server_name() != self.settings.server_name {
            return Err(EngineError::invalid_param(
                "the user belongs to another server",
            ));
        }
        if user_id.as_str().contains('\0') {
            return Err(no_such_account());
        }
        self.existing(user_id).await
    }
}
