//! Tokens of a brief life: by which one device logs another in
//! (<https://spec.matrix.org/v1.19/client-server-api/#token-based-login>), and by which a user proves to a third party who
//! they are (<https://spec.matrix.org/v1.19/client-server-api/#openid>).

use std::time::Duration;

use parley_storage::{
    StorageError,
    accounts::{self, AccountRow},
    brief_tokens::{self, NewBriefToken},
};
use ruma::{OwnedUserId, api::error::ErrorKind};

use super::{Account, Accounts};
use crate::{
    EngineError, Result,
    sessions::{AccountKind, Session, hash_token},
};

/// Characters of a token after its prefix: 256 bits.
const TOKEN_LENGTH: usize = 43;
/// Tokens begin with what they are, so that one that got into a log is recognised.
const LOGIN_PREFIX: &str = "pll_";
const OPENID_PREFIX: &str = "plo_";

/// A token that was just made.
#[derive(Clone)]
pub struct BriefToken {
    /// The token itself.
    pub token: String,
    /// How long it is good.
    pub expires_in: Duration,
}

impl Accounts {
    /// Whether a user can have tokens made that log in another device: those who could prove who they are.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn may_make_login_tokens(&self, session: &Session) -> Result<bool> {
        if !self.settings.login.by_token || session.kind != AccountKind::User {
            return Ok(false);
        }
        let account = self.find(&session.user_id).await?;
        Ok(account.is_some_and(|account| account.has_password))
    }

    /// Makes a token by which another device can log in as the same user, once and soon.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn make_login_token(&self, session: &Session) -> Result<BriefToken> {
        let lifetime = self.settings.tokens.login_token_lifetime;
        let (token, row) = self.brief_token(LOGIN_PREFIX, session, lifetime);
        let mut transaction = self.database.write().await?;
        brief_tokens::insert_login_token(&mut transaction, &row).await?;
        transaction.commit().await?;
        Ok(token)
    }

    /// The account that a token logs in to. This uses it up.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the token isn't known, was used or has expired; `M_USER_LOCKED`, `M_USER_DEACTIVATED`.
    pub async fn log_in_by_token(&self, token: &str) -> Result<Account> {
        let mut transaction = self.database.write().await?;
        let now = self.clock.now_ms();
        let user_nid = brief_tokens::take_login_token(&mut transaction, &hash_token(token), now)
            .await?
            .ok_or_else(|| {
                EngineError::forbidden("the login token is not known, was used or has expired")
            })?;
        transaction.commit().await?;
        let row = accounts::get(&self.database, user_nid).await?;
        let row = row.ok_or_else(|| StorageError::Corrupt("a token of nobody".to_owned()))?;
        self.admitted(row)
    }

    /// Makes a token by which a third party can learn from this server who the user is, and nothing else.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn make_openid_token(&self, session: &Session) -> Result<BriefToken> {
        let lifetime = self.settings.tokens.openid_token_lifetime;
        let (token, row) = self.brief_token(OPENID_PREFIX, session, lifetime);
        let mut transaction = self.database.write().await?;
        brief_tokens::insert_openid_token(&mut transaction, &row).await?;
        transaction.commit().await?;
        Ok(token)
    }

    /// Who made a token for third parties.
    ///
    /// # Errors
    /// `M_UNKNOWN_TOKEN` if it isn't known, has expired, or its user may not log in any more.
    pub async fn openid_user(&self, token: &str) -> Result<OwnedUserId> {
        let now = self.clock.now_ms();
        let user_id = brief_tokens::openid_user(&self.database, &hash_token(token), now)
            .await?
            .ok_or_else(|| {
                EngineError::unknown_token(false, "the token is not known or has expired")
            })?;
        OwnedUserId::try_from(user_id)
            .map_err(|error| StorageError::Corrupt(error.to_string()).into())
    }

    fn brief_token(
        &self,
        prefix: &str,
        session: &Session,
        lifetime: Duration,
    ) -> (BriefToken, NewBriefToken) {
        let token = format!("{prefix}{}", self.random.alphanumeric(TOKEN_LENGTH));
        let now = self.clock.now_ms();
        let row = NewBriefToken {
            hash: hash_token(&token),
            user_nid: session.user_nid,
            now,
            expires_at: now.saturating_add(i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX)),
        };
        let token = BriefToken {
            token,
            expires_in: lifetime,
        };
        (token, row)
    }

    /// The account of somebody who has proved who they are, if they may log in.
    pub(super) fn admitted(&self, row: AccountRow) -> Result<Account> {
        if row.deactivated_at.is_some() {
            return Err(EngineError::refused(
                ErrorKind::UserDeactivated,
                "this account has been deactivated",
            ));
        }
        if row.locked_at.is_some() {
            return Err(EngineError::user_locked());
        }
        if row.kind == AccountKind::Server.as_str() {
            return Err(EngineError::forbidden("this account is the server's own"));
        }
        Account::from_row(row)
    }
}

impl std::fmt::Debug for BriefToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BriefToken")
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}
