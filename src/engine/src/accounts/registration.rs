//! Making accounts.

use parley_storage::{
    accounts::{self, NewAccount},
    registration_tokens,
};
use ruma::{OwnedUserId, api::error::ErrorKind};

use super::{Account, Accounts};
use crate::{
    EngineError, Result,
    sessions::AccountKind,
    settings::{RegistrationMode, Secret},
    text,
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
}

impl Accounts {
    /// Who may register through the client-server API.
    pub fn registration_mode(&self) -> RegistrationMode {
        self.settings.registration.mode
    }

    /// Makes an account.
    ///
    /// # Errors
    /// `M_INVALID_USERNAME`, `M_USER_IN_USE`, `M_WEAK_PASSWORD`, `M_INVALID_PARAM`; `M_FORBIDDEN` if the registration
    /// token isn't good any more.
    pub async fn create(&self, user: NewUser) -> Result<Account> {
        let user_id = match &user.username {
            Some(name) => self.check_username(name).await?,
            None => self.unused_name().await?,
        };
        let password_hash = match &user.password {
            Some(password) => Some(self.hash_password(password.expose()).await?),
            None => None,
        };
        let now = self.clock.now_ms();
        let mut transaction = self.database.write().await?;
        let user_nid = self
            .database
            .intern_user(&mut transaction, &user_id)
            .await?;
        let account = NewAccount {
            user_nid,
            password_hash,
            kind: AccountKind::User.as_str(),
            admin: user.admin,
            created_at: now,
        };
        if !accounts::insert(&mut transaction, &account).await? {
            return Err(in_use());
        }
        let token = user.registration_token;
        if let Some(token) = token.filter(|token| !self.is_configured(token))
            && !registration_tokens::take(&mut transaction, &token, now).await?
        {
            return Err(EngineError::forbidden(
                "the registration token is not valid any more",
            ));
        }
        transaction.commit().await?;
        Ok(Account {
            user_nid,
            user_id,
            kind: AccountKind::User,
            admin: account.admin,
            has_password: account.password_hash.is_some(),
            created_at: now,
            deactivated_at: None,
            locked: false,
            suspended: false,
            erased: false,
        })
    }

    /// The ID that registering by that name would give, if it is still to be had.
    ///
    /// # Errors
    /// `M_INVALID_USERNAME`, `M_USER_IN_USE`.
    pub async fn check_username(&self, username: &str) -> Result<OwnedUserId> {
        let user_id = text::user_id_of(username, &self.settings.server_name)?;
        match accounts::find(&self.database, user_id.as_str()).await? {
            Some(_) => Err(in_use()),
            None => Ok(user_id),
        }
    }

    /// Demands of a password what is demanded of a new one.
    ///
    /// # Errors
    /// `M_WEAK_PASSWORD`, `M_INVALID_PARAM`.
    pub fn check_new_password(&self, password: &str) -> Result<()> {
        text::check_new_password(password, self.settings.passwords.minimum_length)
    }

    async fn unused_name(&self) -> Result<OwnedUserId> {
        // 62 bits: a second attempt is hardly ever needed, a third never.
        for _ in 0..3 {
            let name = self.random.lower_case(NAME_LENGTH);
            match self.check_username(&name).await {
                Err(error) if error.kind() == Some(&ErrorKind::UserInUse) => {}
                result => return result,
            }
        }
        Err(EngineError::Internal(
            "no free user name was found".to_owned(),
        ))
    }
}

fn in_use() -> EngineError {
    EngineError::refused(ErrorKind::UserInUse, "the user name is taken")
}
