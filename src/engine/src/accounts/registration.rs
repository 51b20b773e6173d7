//! Making accounts.

use std::sync::Arc;

use parley_storage::{
    accounts::{self, AcceptedTerm, NewAccount},
    registration_tokens,
};
use ruma::{OwnedUserId, UserId, api::error::ErrorKind};

use super::{Account, Accounts, guests::is_guest_name};
use crate::{
    EngineError, Result,
    appservices::Appservice,
    sessions::AccountKind,
    settings::{Policy, RegistrationMode, Secret},
    text,
    user_directory::UserDirectory,
};

/// Characters of a user name that the server chooses.
const NAME_LENGTH: usize = 12;

/// Someone who is to get an account.
#[derive(Clone, Debug, Default)]
pub struct NewUser {
    /// The localpart of the ID, in any case; without it the server chooses one.
    pub username: Option<String>,
    /// The password; without it nobody can log in by one.
    pub password: Option<Secret>,
    /// Whether the user is to administer this server.
    pub admin: bool,
    /// A token that this uses up.
    pub registration_token: Option<String>,
    /// The documents that the user agreed to.
    pub accepted_terms: Vec<AcceptedTerm>,
    /// The application service that makes the account, if one does.
    pub appservice: Option<Arc<Appservice>>,
}

impl Accounts {
    /// Who may register through the client-server API.
    pub fn registration_mode(&self) -> RegistrationMode {
        self.settings.registration.mode
    }

    /// What has to be agreed to at registration, a document for each language.
    pub fn terms(&self) -> &[Policy] {
        &self.settings.registration.terms
    }

    /// Makes an account.
    ///
    /// # Errors
    /// `M_INVALID_USERNAME`, `M_USER_IN_USE`, `M_EXCLUSIVE`, `M_WEAK_PASSWORD`, `M_INVALID_PARAM`; `M_FORBIDDEN` if the
    /// registration token isn't good any more.
    pub async fn create(&self, user: NewUser) -> Result<Account> {
        let appservice = user.appservice.as_deref();
        let user_id = match &user.username {
            Some(name) => self.check_username(name, appservice).await?,
            None => {
                let name = || self.random.lower_case(NAME_LENGTH);
                self.unused(name, |name| self.user_id_for(name, appservice))
                    .await?
            }
        };
        let password_hash = match &user.password {
            Some(password) => Some(self.hash_password(password.expose()).await?),
            None => None,
        };
        let kind = match appservice {
            Some(_) => AccountKind::Appservice,
            None => AccountKind::User,
        };
        self.insert(user_id, kind, password_hash, &user).await
    }

    /// Stores an account, and uses up the registration token if there is one.
    pub(super) async fn insert(
        &self,
        user_id: OwnedUserId,
        kind: AccountKind,
        password_hash: Option<String>,
        user: &NewUser,
    ) -> Result<Account> {
        let now = self.clock.now_ms();
        let mut transaction = self.database.write().await?;
        let user_nid = self
            .database
            .intern_user(&mut transaction, &user_id)
            .await?;
        let account = NewAccount {
            user_nid,
            password_hash,
            kind: kind.as_str(),
            admin: user.admin,
            created_at: now,
        };
        if !accounts::insert(&mut transaction, &account).await? {
            return Err(in_use());
        }
        let token = user.registration_token.as_deref();
        if let Some(token) = token.filter(|token| !self.is_configured(token))
            && !registration_tokens::take(&mut transaction, token, now).await?
        {
            return Err(token_is_spent());
        }
        accounts::accept_terms(&mut transaction, user_nid, &user.accepted_terms, now).await?;
        if kind != AccountKind::Guest {
            UserDirectory::list(&mut transaction, user_nid).await?;
        }
        transaction.commit().await?;
        Ok(Account {
            user_nid,
            user_id,
            kind,
            admin: account.admin,
            has_password: account.password_hash.is_some(),
            created_at: now,
            deactivated_at: None,
            locked: false,
            suspended: false,
            erased: false,
        })
    }

    /// The ID that registering by that name would give, if it is still to be had; by an application service, if it is
    /// one that registers.
    ///
    /// # Errors
    /// `M_INVALID_USERNAME`, `M_USER_IN_USE`, `M_EXCLUSIVE`.
    pub async fn check_username(
        &self,
        username: &str,
        appservice: Option<&Appservice>,
    ) -> Result<OwnedUserId> {
        let user_id = self.user_id_for(username, appservice)?;
        match self.is_taken(&user_id).await? {
            true => Err(in_use()),
            false => Ok(user_id),
        }
    }

    /// Demands of a password what is demanded of a new one.
    ///
    /// # Errors
    /// `M_WEAK_PASSWORD`, `M_INVALID_PARAM`.
    pub fn check_new_password(&self, password: &str) -> Result<()> {
        text::check_new_password(password, self.settings.passwords.minimum_length)
    }

    fn user_id_for(&self, username: &str, appservice: Option<&Appservice>) -> Result<OwnedUserId> {
        if is_guest_name(username) {
            return Err(EngineError::refused(
                ErrorKind::InvalidUsername,
                "names of digits alone are given to guests",
            ));
        }
        let user_id = text::user_id_of(username, &self.settings.server_name)?;
        self.appservices.check_user(appservice, &user_id)?;
        Ok(user_id)
    }

    pub(super) fn guest_id(&self, username: &str) -> Result<OwnedUserId> {
        text::user_id_of(username, &self.settings.server_name)
    }

    async fn is_taken(&self, user_id: &UserId) -> Result<bool> {
        let account = accounts::find(&self.database, user_id.as_str()).await?;
        Ok(account.is_some())
    }

    /// A name that the server chooses, of those that `propose` gives and that nobody has.
    pub(super) async fn unused(
        &self,
        propose: impl Fn() -> String,
        id_of: impl Fn(&str) -> Result<OwnedUserId>,
    ) -> Result<OwnedUserId> {
        // 40 bits or more: a second attempt is hardly ever needed, a fifth never.
        for _ in 0..5 {
            match id_of(&propose()) {
                Ok(user_id) if !self.is_taken(&user_id).await? => return Ok(user_id),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    Some(ErrorKind::InvalidUsername | ErrorKind::Exclusive) => {}
                    _ => return Err(error),
                },
            }
        }
        Err(EngineError::Internal(
            "no free user name was found".to_owned(),
        ))
    }
}

pub(super) fn token_is_spent() -> EngineError {
    EngineError::forbidden("the registration token is not valid any more")
}

fn in_use() -> EngineError {
    EngineError::refused(ErrorKind::UserInUse, "the user name is taken")
}
