//! Accounts: making them, proving who one is, deactivating them.

mod appservice_login;
mod brief_tokens;
mod guests;
mod jwt;
mod moderation;
mod password_login;
mod rate_limit;
mod registration;
mod registration_tokens;
mod shared_secret;

use std::sync::Arc;

use parley_storage::{
    Database, StorageError, Transaction,
    accounts::{self, AccountRow},
};
use ruma::{OwnedUserId, UserId};

pub(crate) use self::guests::is_guest_name;
pub use self::{
    brief_tokens::BriefToken, jwt::check_settings as check_jwt_settings, registration::NewUser,
    shared_secret::SharedSecretRegistration,
};
use crate::{
    EngineError, Result,
    appservices::Appservices,
    clock::Clock,
    devices::Devices,
    erased::Erased,
    hooks::AccountHooks,
    limits::Limits,
    passwords::Passwords,
    random::Random,
    sessions::{AccountKind, Session, Sessions},
    settings::EngineSettings,
    text,
};

/// Accounts that are read at once by [`Accounts::list`] at most.
const MAX_PAGE: u32 = 1_000;

/// The accounts of this server.
#[derive(Clone, Debug)]
pub struct Accounts {
    database: Database,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    settings: Arc<EngineSettings>,
    passwords: Passwords,
    limits: Limits,
    sessions: Sessions,
    devices: Devices,
    appservices: Appservices,
    erased: Erased,
    jwt: Option<jwt::JwtVerifier>,
    hooks: Arc<dyn AccountHooks>,
}

/// What accounts work with.
#[derive(Debug)]
pub(crate) struct AccountParts {
    pub(crate) database: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) settings: Arc<EngineSettings>,
    pub(crate) limits: Limits,
    pub(crate) sessions: Sessions,
    pub(crate) devices: Devices,
    pub(crate) appservices: Appservices,
    pub(crate) erased: Erased,
    pub(crate) hooks: Arc<dyn AccountHooks>,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The number of the user.
    pub user_nid: i64,
    /// The ID of the user.
    pub user_id: OwnedUserId,
    /// What kind of account it is.
    pub kind: AccountKind,
    /// Whether the user administers this server.
    pub admin: bool,
    /// Whether there is a password.
    pub has_password: bool,
    /// When it was made, in milliseconds since the epoch.
    pub created_at: i64,
    /// When it was deactivated, if it was.
    pub deactivated_at: Option<i64>,
    /// Whether its user may only log out.
    pub locked: bool,
    /// Whether its user may only read.
    pub suspended: bool,
    /// Whether its user asked to be forgotten.
    pub erased: bool,
}

impl Account {
    fn from_row(row: AccountRow) -> Result<Self> {
        Ok(Self {
            user_nid: row.user_nid,
            user_id: row
                .user_id
                .try_into()
                .map_err(|error: ruma::IdParseError| StorageError::Corrupt(error.to_string()))?,
            kind: AccountKind::from_stored(&row.kind)?,
            admin: row.admin,
            has_password: row.password_hash.is_some(),
            created_at: row.created_at,
            deactivated_at: row.deactivated_at,
            locked: row.locked_at.is_some(),
            suspended: row.suspended_at.is_some(),
            erased: row.erased,
        })
    }
}

impl Accounts {
    pub(crate) fn new(parts: AccountParts) -> Result<Self> {
        let passwords = Passwords::new(&parts.settings.passwords, &parts.random)?;
        let jwt = parts.settings.login.jwt.as_ref();
        let jwt = jwt.map(jwt::JwtVerifier::new).transpose();
        Ok(Self {
            jwt: jwt.map_err(EngineError::Internal)?,
            appservices: parts.appservices,
            erased: parts.erased,
            database: parts.database,
            clock: parts.clock,
            random: parts.random,
            settings: parts.settings,
            passwords,
            limits: parts.limits,
            sessions: parts.sessions,
            devices: parts.devices,
            hooks: parts.hooks,
        })
    }

    /// The account of a user, deactivated or not.
    pub async fn find(&self, user_id: &UserId) -> Result<Option<Account>> {
        let row = accounts::find(&self.database, user_id.as_str()).await?;
        row.map(Account::from_row).transpose()
    }

    /// Accounts in the order in which they were made, at most `limit` (1,000): those after the one with the number
    /// `after`, 0 for the first.
    pub async fn list(&self, after: i64, limit: u32) -> Result<Vec<Account>> {
        let limit = i64::from(limit.min(MAX_PAGE));
        let rows = accounts::list(&self.database, after, limit).await?;
        rows.into_iter().map(Account::from_row).collect()
    }

    /// The hash of a password, as it is stored. What is demanded of new passwords is demanded of it.
    ///
    /// # Errors
    /// `M_WEAK_PASSWORD`, `M_INVALID_PARAM`.
    pub async fn hash_password(&self, password: &str) -> Result<String> {
        text::check_new_password(password, self.settings.passwords.minimum_length)?;
        self.passwords.hash(password).await
    }

    /// Gives a user another password, without asking for the old one, and logs out their devices if wanted.
    ///
    /// # Errors
    /// `M_WEAK_PASSWORD`, `M_INVALID_PARAM`; `M_NOT_FOUND` if there is no such account or it is deactivated.
    pub async fn reset_password(
        &self,
        user_id: &UserId,
        password: &str,
        logout_devices: bool,
    ) -> Result<()> {
        let account = self.existing(user_id).await?;
        self.set_password(&account, password, logout_devices, None)
            .await
    }

    /// Changes the password of who is logged in. Their other devices are logged out if wanted.
    ///
    /// # Errors
    /// `M_WEAK_PASSWORD`, `M_INVALID_PARAM`.
    pub async fn change_password(
        &self,
        session: &Session,
        password: &str,
        logout_devices: bool,
    ) -> Result<()> {
        let account = self.existing(&session.user_id).await?;
        let kept = Some(session.device_nid);
        self.set_password(&account, password, logout_devices, kept)
            .await
    }

    async fn set_password(
        &self,
        account: &Account,
        password: &str,
        logout_devices: bool,
        kept: Option<i64>,
    ) -> Result<()> {
        let hash = self.hash_password(password).await?;
        let mut transaction = self.database.write().await?;
        if !accounts::set_password(&mut transaction, account.user_nid, Some(&hash)).await? {
            return Err(no_such_account());
        }
        if !logout_devices {
            return Ok(transaction.commit().await?);
        }
        let deleted =
            Devices::delete_all_except_in(&mut transaction, account.user_nid, kept).await?;
        transaction.commit().await?;
        self.devices
            .announce(account.user_nid, &account.user_id, deleted)
            .await
    }

    /// Deactivates an account for good: nobody can log in to it or register its name again, its devices are logged out,
    /// it leaves all rooms. With `erase`, what is kept for the user is removed too, and who comes to a room after that is
    /// shown nothing of what they wrote.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such account or it is deactivated already.
    pub async fn deactivate(&self, user_id: &UserId, erase: bool) -> Result<()> {
        let account = self.existing(user_id).await?;
        let user_nid = account.user_nid;
        let mut transaction = self.database.write().await?;
        let now = self.clock.now_ms();
        if !accounts::deactivate(&mut transaction, user_nid, now, erase).await? {
            return Err(no_such_account());
        }
        let deleted = Devices::delete_all_except_in(&mut transaction, user_nid, None).await?;
        transaction.commit().await?;
        self.sessions.forget_user(user_nid);
        if erase {
            self.erased.changed().await?;
        }
        self.devices.announce(user_nid, user_id, deleted).await?;
        if let Err(error) = self.leave_all_rooms(user_nid, user_id).await {
            // The account is closed all the same, and the next start goes on with the rooms.
            tracing::error!(%user_id, %error, "a deactivated user could not leave all rooms");
        }
        Ok(())
    }

    /// Has deactivated users leave their rooms where that was begun before the last stop.
    pub(crate) async fn finish_deactivations(&self) -> Result<()> {
        for (user_nid, user_id) in accounts::leaving(&self.database).await? {
            let user_id = OwnedUserId::try_from(user_id)
                .map_err(|error| StorageError::Corrupt(error.to_string()))?;
            if let Err(error) = self.leave_all_rooms(user_nid, &user_id).await {
                tracing::error!(%user_id, %error, "a deactivated user could not leave all rooms");
            }
        }
        Ok(())
    }

    async fn leave_all_rooms(&self, user_nid: i64, user_id: &UserId) -> Result<()> {
        self.hooks.leave_all_rooms(user_nid, user_id).await?;
        let mut transaction = self.database.write().await?;
        accounts::has_left(&mut transaction, user_nid).await?;
        Ok(transaction.commit().await?)
    }

    /// Makes someone an administrator of this server, or takes that away.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such account or it is deactivated.
    pub async fn set_admin(&self, user_id: &UserId, admin: bool) -> Result<()> {
        let user_nid = self.existing(user_id).await?.user_nid;
        let mut transaction = self.database.write().await?;
        accounts::set_admin(&mut transaction, user_nid, admin).await?;
        self.commit_change(transaction, user_nid).await
    }

    /// Locks an account, so that its user can do nothing but log out, or opens it again.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such account or it is deactivated.
    pub async fn set_locked(&self, user_id: &UserId, locked: bool) -> Result<()> {
        let user_nid = self.existing(user_id).await?.user_nid;
        let since = locked.then(|| self.clock.now_ms());
        let mut transaction = self.database.write().await?;
        accounts::set_locked(&mut transaction, user_nid, since).await?;
        self.commit_change(transaction, user_nid).await
    }

    /// Suspends an account, so that its user can read but not write, or ends that.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such account or it is deactivated.
    pub async fn set_suspended(&self, user_id: &UserId, suspended: bool) -> Result<()> {
        let user_nid = self.existing(user_id).await?.user_nid;
        let since = suspended.then(|| self.clock.now_ms());
        let mut transaction = self.database.write().await?;
        accounts::set_suspended(&mut transaction, user_nid, since).await?;
        self.commit_change(transaction, user_nid).await
    }

    async fn commit_change(&self, transaction: Transaction, user_nid: i64) -> Result<()> {
        transaction.commit().await?;
        self.sessions.forget_user(user_nid);
        Ok(())
    }

    /// An account that is not deactivated.
    async fn existing(&self, user_id: &UserId) -> Result<Account> {
        let account = self.find(user_id).await?;
        account
            .filter(|account| account.deactivated_at.is_none())
            .ok_or_else(no_such_account)
    }
}

fn no_such_account() -> EngineError {
    EngineError::not_found("there is no such account on this server")
}
