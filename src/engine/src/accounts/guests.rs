//! Guests: <https://spec.matrix.org/v1.19/client-server-api/#guest-access>.

use parley_storage::{accounts, registration_tokens};
use ruma::UserId;

use super::{Account, Accounts, NewUser, registration::token_is_spent};
use crate::{
    EngineError, Result,
    sessions::{AccountKind, Session},
    user_directory::UserDirectory,
};

/// Digits of a guest's name.
const NAME_LENGTH: usize = 12;

/// Whether a localpart is one that guests get: digits alone.
pub(crate) fn is_guest_name(localpart: &str) -> bool {
    !localpart.is_empty() && localpart.bytes().all(|byte| byte.is_ascii_digit())
}

impl Accounts {
    /// Makes an account for a guest.
    ///
    /// # Errors
    /// `M_GUEST_ACCESS_FORBIDDEN` if this server has no guests.
    pub async fn create_guest(&self) -> Result<Account> {
        if !self.settings.registration.guests {
            return Err(EngineError::guest_forbidden("this server has no guests"));
        }
        let user_id = self
            .unused(
                || self.random.digits(NAME_LENGTH),
                |name| self.guest_id(name),
            )
            .await?;
        self.insert(user_id, AccountKind::Guest, None, &NewUser::default())
            .await
    }

    /// The guest that somebody proves to be by an access token, and who wants to keep the name.
    ///
    /// # Errors
    /// `M_UNKNOWN_TOKEN`, `M_USER_LOCKED`; `M_FORBIDDEN` if the token is no guest's or the name is another.
    pub async fn guest_of_token(&self, token: &str, username: Option<&str>) -> Result<Account> {
        let session = self.sessions.authenticate(token, None).await?;
        if session.kind != AccountKind::Guest {
            return Err(EngineError::forbidden("the access token is no guest's"));
        }
        if session.locked {
            return Err(EngineError::user_locked());
        }
        if username != Some(session.user_id.localpart()) {
            return Err(EngineError::forbidden(
                "a guest keeps the name: give its localpart as `username`",
            ));
        }
        self.existing(&session.user_id).await
    }

    /// Makes a guest's account that of a person.
    ///
    /// # Errors
    /// `M_WEAK_PASSWORD`, `M_INVALID_PARAM`; `M_FORBIDDEN` if they are no guest any more, or the registration token isn't
    /// good any more.
    pub async fn upgrade_guest(&self, guest: &Account, user: &NewUser) -> Result<Account> {
        let hash = match &user.password {
            Some(password) => Some(self.hash_password(password.expose()).await?),
            None => None,
        };
        let now = self.clock.now_ms();
        let mut transaction = self.database.write().await?;
        if !accounts::upgrade_guest(&mut transaction, guest.user_nid, hash.as_deref()).await? {
            return Err(EngineError::forbidden("this is no guest any more"));
        }
        let token = user.registration_token.as_deref();
        if let Some(token) = token.filter(|token| !self.is_configured(token))
            && !registration_tokens::take(&mut transaction, token, now).await?
        {
            return Err(token_is_spent());
        }
        let terms = &user.accepted_terms;
        accounts::accept_terms(&mut transaction, guest.user_nid, terms, now).await?;
        UserDirectory::list(&mut transaction, guest.user_nid).await?;
        self.commit_change(transaction, guest.user_nid).await?;
        Ok(Account {
            kind: AccountKind::User,
            has_password: hash.is_some(),
            ..guest.clone()
        })
    }

    /// Of users of this server, those who are guests now.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn is_guest(&self, user_id: &UserId) -> Result<bool> {
        let account = self.find(user_id).await?;
        Ok(account.is_some_and(|account| account.kind == AccountKind::Guest))
    }
}

impl Session {
    /// Lets pass those who are no guests.
    ///
    /// # Errors
    /// `M_GUEST_ACCESS_FORBIDDEN`.
    pub fn must_not_be_guest(&self) -> Result<()> {
        match self.kind {
            AccountKind::Guest => Err(EngineError::guest_forbidden("guests may not do that")),
            _ => Ok(()),
        }
    }
}
