//! Application services: bridges and bots, which own parts of this server's names and speak for the users in them.
//!
//! <https://spec.matrix.org/v1.19/application-service-api/>

mod registration;

use std::sync::Arc;

use parley_storage::{Database, accounts, devices};
use ruma::{OwnedUserId, RoomAliasId, ServerName, UserId, api::error::ErrorKind};
use subtle::ConstantTimeEq;

pub use self::registration::AppserviceRegistration;
use self::registration::Names;
use crate::{
    EngineError, Result, clock::Clock, limits::Limits, sessions::Session, settings::EngineSettings,
};

/// An application service.
#[derive(Debug)]
pub struct Appservice {
    registration: AppserviceRegistration,
    sender: OwnedUserId,
    users: Names,
    aliases: Names,
}

impl Appservice {
    /// Its own name, which never changes.
    pub fn id(&self) -> &str {
        &self.registration.as_ref().id
    }

    /// The user that it is when it doesn't say for whom it speaks.
    pub fn sender(&self) -> &UserId {
        &self.sender
    }

    /// Whether it may speak for a user.
    pub fn covers_user(&self, user_id: &UserId) -> bool {
        user_id == self.sender
            || (user_id.server_name() == self.sender.server_name()
                && self.users.include(user_id.as_str()))
    }

    fn owns_user(&self, user_id: &UserId) -> bool {
        user_id == self.sender
            || (user_id.server_name() == self.sender.server_name()
                && self.users.include_exclusively(user_id.as_str()))
    }

    /// Whether the requests that it makes for a user are limited. Those for itself never are.
    fn is_limited(&self, user_id: &UserId) -> bool {
        self.registration.as_ref().rate_limited != Some(false) && user_id != self.sender
    }
}

/// The application services of this server.
#[derive(Clone, Debug)]
pub struct Appservices {
    database: Database,
    limits: Limits,
    all: Arc<[Arc<Appservice>]>,
}

/// Whether a server of that name can work with these registrations.
///
/// # Errors
/// A sentence that says why not: two have the same id or token, or one names what isn't a pattern or a user.
pub fn check_registrations(
    registrations: &[AppserviceRegistration],
    server_name: &ServerName,
) -> Result<(), String> {
    registration::check_unique(registrations)?;
    registrations
        .iter()
        .try_for_each(|registration| registration.start(server_name).map(drop))
}

impl Appservices {
    pub(crate) fn new(
        database: &Database,
        limits: &Limits,
        settings: &EngineSettings,
    ) -> Result<Self> {
        registration::check_unique(&settings.appservices).map_err(EngineError::Internal)?;
        let all = settings.appservices.iter().map(|registration| {
            let appservice = registration.start(&settings.server_name);
            appservice.map(Arc::new).map_err(EngineError::Internal)
        });
        Ok(Self {
            database: database.clone(),
            limits: limits.clone(),
            all: all.collect::<Result<_>>()?,
        })
    }

    /// All of them.
    pub fn all(&self) -> &[Arc<Appservice>] {
        &self.all
    }

    /// The application service that a token belongs to, found in a time that tells nothing about the tokens.
    pub fn by_token(&self, token: &str) -> Option<&Arc<Appservice>> {
        self.all.iter().fold(None, |found, appservice| {
            let known = appservice.registration.as_ref().as_token.as_bytes();
            match bool::from(known.ct_eq(token.as_bytes())) {
                true => Some(appservice),
                false => found,
            }
        })
    }

    /// The session in which an application service speaks for a user, by default the one that it is itself; with a device
    /// if it names one.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user isn't one of its own or has no account, `M_USER_DEACTIVATED`, `M_UNKNOWN_DEVICE`.
    pub async fn session(
        &self,
        appservice: &Arc<Appservice>,
        user_id: Option<&str>,
        device_id: Option<&str>,
    ) -> Result<Session> {
        let user_id = match user_id {
            Some(user_id) => UserId::parse(user_id)
                .map_err(|_| EngineError::invalid_param("`user_id` is not a user ID"))?,
            None => appservice.sender.clone(),
        };
        if !appservice.covers_user(&user_id) || user_id.as_str().contains('\0') {
            return Err(EngineError::forbidden(
                "the application service can't speak for this user",
            ));
        }
        let account = accounts::find(&self.database, user_id.as_str())
            .await?
            .ok_or_else(|| EngineError::forbidden("the user has not been registered"))?;
        if account.deactivated_at.is_some() {
            return Err(EngineError::refused(
                ErrorKind::UserDeactivated,
                "this account has been deactivated",
            ));
        }
        let device = match device_id {
            Some(id) if !id.contains('\0') => {
                let found = devices::find(&self.database, account.user_nid, id).await?;
                Some(found.ok_or_else(unknown_device)?)
            }
            Some(_) => return Err(unknown_device()),
            None => None,
        };
        if !appservice.is_limited(&user_id) {
            self.limits.exempt(account.user_nid);
        }
        Session::of_appservice(appservice, user_id, account, device)
    }

    /// Lets pass who may have a user ID: nobody but the application service that owns it, if one does.
    ///
    /// # Errors
    /// `M_EXCLUSIVE`.
    pub fn check_user(&self, by: Option<&Appservice>, user_id: &UserId) -> Result<()> {
        let covered = by.is_none_or(|appservice| appservice.covers_user(user_id));
        let owned = |other: &Appservice| other.owns_user(user_id);
        self.check(by, covered, owned, "user name")
    }

    /// Lets pass who may make or remove an alias: nobody but the application service that owns it, if one does.
    ///
    /// # Errors
    /// `M_EXCLUSIVE`.
    pub fn check_alias(&self, by: Option<&Appservice>, alias: &RoomAliasId) -> Result<()> {
        let covered = by.is_none_or(|appservice| appservice.aliases.include(alias.as_str()));
        let owned = |other: &Appservice| other.aliases.include_exclusively(alias.as_str());
        self.check(by, covered, owned, "room alias")
    }

    fn check(
        &self,
        by: Option<&Appservice>,
        covered: bool,
        owned_by: impl Fn(&Appservice) -> bool,
        what: &str,
    ) -> Result<()> {
        let exclusive = |message| Err(EngineError::refused(ErrorKind::Exclusive, message));
        if !covered {
            return exclusive(format!(
                "this {what} is not in a namespace of the application service"
            ));
        }
        let own = by.map(Appservice::id);
        let mut others = self.all.iter().filter(|other| own != Some(other.id()));
        if others.any(|other| owned_by(other)) {
            return exclusive(format!("this {what} belongs to an application service"));
        }
        Ok(())
    }

    /// Gives each application service the account that it is.
    pub(crate) async fn make_senders(&self, clock: &dyn Clock) -> Result<()> {
        for appservice in self.all.iter() {
            let mut transaction = self.database.write().await?;
            let user_nid = self
                .database
                .intern_user(&mut transaction, &appservice.sender)
                .await?;
            let account = accounts::NewAccount {
                user_nid,
                password_hash: None,
                kind: crate::sessions::AccountKind::Appservice.as_str(),
                admin: false,
                created_at: clock.now_ms(),
            };
            // If it is there already, it stays as it is.
            accounts::insert(&mut transaction, &account).await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}

fn unknown_device() -> EngineError {
    EngineError::refused(ErrorKind::UnknownDevice, "the user has no such device")
}
