//! Who sent a request: access tokens, looked up in memory where possible.

mod last_seen;

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use parley_storage::{
    Database, Engine as DatabaseEngine, StorageError,
    accounts::AccountRow,
    devices::DeviceRow,
    tokens::{self, TokenHash, TokenOwner},
};
use quick_cache::sync::Cache;
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId, api::error::ErrorKind};
use sha2::{Digest, Sha256};

use self::last_seen::LastSeen;
use crate::{
    EngineError, Result,
    appservices::Appservice,
    background::Background,
    clock::Clock,
    stream::nodes::{Listener, News, Nodes},
};

/// Sessions kept in memory. An entry takes about 300 bytes.
const CACHED: usize = 50_000;
/// How long an entry is believed where another node may have logged the device out, in milliseconds. That node tells it,
/// so this matters only where the news got lost.
const BELIEVED_WITH_OTHER_NODES: i64 = 10_000;

/// Ended tokens that other nodes are told of in one piece.
const TOLD_AT_ONCE: usize = 100;

/// What kind of account a session belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountKind {
    /// A person's.
    User,
    /// A guest's, who may do little.
    Guest,
    /// An application service's, or of a user in its namespace.
    Appservice,
    /// The server's own, that of its notices. Nobody logs in to it.
    Server,
}

impl AccountKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Guest => "guest",
            Self::Appservice => "appservice",
            Self::Server => "server",
        }
    }

    pub(crate) fn from_stored(text: &str) -> Result<Self> {
        match text {
            "user" => Ok(Self::User),
            "guest" => Ok(Self::Guest),
            "appservice" => Ok(Self::Appservice),
            "server" => Ok(Self::Server),
            _ => Err(StorageError::Corrupt(format!("no kind of account is {text:?}")).into()),
        }
    }
}

/// Who sent a request.
#[derive(Debug)]
pub struct Session {
    /// The user's ID.
    pub user_id: OwnedUserId,
    /// The user's number.
    pub user_nid: i64,
    /// The device's ID; `None` for an application service that speaks for a user without a device.
    pub device_id: Option<OwnedDeviceId>,
    /// The device's number. Where there is no device a number of the user's own that no device has, so that transaction
    /// ids and all else that is kept by device never meet those of others.
    pub device_nid: i64,
    /// The application service that speaks for the user, if one does.
    pub appservice: Option<Arc<Appservice>>,
    /// What kind of account it is.
    pub kind: AccountKind,
    /// Whether the user administers this server.
    pub admin: bool,
    /// A suspended user may read, and leave, but not write.
    pub suspended: bool,
    /// A locked user may only log out.
    pub locked: bool,
    expires_at: Option<i64>,
    /// Until when this is believed without asking the database.
    believed_until: i64,
    /// When the device was last noted as seen.
    noted_at: AtomicI64,
}

impl Session {
    /// The server itself, which acts for one of its users. What a user may do is for the caller to know.
    pub fn of_server(user_nid: i64, user_id: &UserId) -> Self {
        Self {
            user_id: user_id.to_owned(),
            user_nid,
            device_id: None,
            device_nid: without_device(user_nid),
            appservice: None,
            kind: AccountKind::User,
            admin: false,
            suspended: false,
            locked: false,
            expires_at: None,
            believed_until: 0,
            noted_at: AtomicI64::new(0),
        }
    }

    /// The server itself, which does what a user has asked for earlier, as far as they may do it now.
    ///
    /// # Errors
    /// `M_USER_DEACTIVATED`, `M_USER_LOCKED`, `M_USER_SUSPENDED`.
    pub(crate) fn of_absent(user_id: &UserId, account: &AccountRow) -> Result<Self> {
        if account.deactivated_at.is_some() {
            return Err(EngineError::refused(
                ErrorKind::UserDeactivated,
                "this account has been deactivated",
            ));
        }
        if account.locked_at.is_some() {
            return Err(EngineError::user_locked());
        }
        let session = Self {
            kind: AccountKind::from_stored(&account.kind)?,
            admin: account.admin,
            suspended: account.suspended_at.is_some(),
            ..Self::of_server(account.user_nid, user_id)
        };
        session.may_write()?;
        Ok(session)
    }

    /// An application service that speaks for a user.
    pub(crate) fn of_appservice(
        appservice: &Arc<Appservice>,
        user_id: OwnedUserId,
        account: AccountRow,
        device: Option<DeviceRow>,
    ) -> Result<Self> {
        Ok(Self {
            device_nid: device
                .as_ref()
                .map_or_else(|| without_device(account.user_nid), |device| device.nid),
            appservice: Some(Arc::clone(appservice)),
            kind: AccountKind::from_stored(&account.kind)?,
            admin: account.admin,
            suspended: account.suspended_at.is_some(),
            locked: account.locked_at.is_some(),
            device_id: device.map(|device| device.device_id.into()),
            ..Self::of_server(account.user_nid, &user_id)
        })
    }

    /// The device.
    ///
    /// # Errors
    /// `M_UNKNOWN_DEVICE` if there is none, as where an application service doesn't name one.
    pub fn device(&self) -> Result<&DeviceId> {
        self.device_id.as_deref().ok_or_else(|| {
            EngineError::refused(
                ErrorKind::UnknownDevice,
                "this request needs a device, name one by `device_id`",
            )
        })
    }

    /// Lets pass who may write.
    ///
    /// # Errors
    /// `M_USER_SUSPENDED`.
    pub fn may_write(&self) -> Result<()> {
        if self.suspended {
            return Err(EngineError::refused(
                ErrorKind::UserSuspended,
                "your account is suspended: you can read and leave rooms, nothing else",
            ));
        }
        Ok(())
    }

    /// Lets pass those who administer this server.
    ///
    /// # Errors
    /// `M_FORBIDDEN`.
    pub fn must_be_admin(&self) -> Result<()> {
        if self.admin {
            return Ok(());
        }
        Err(EngineError::forbidden(
            "only administrators of this server may do that",
        ))
    }
}

/// What stands in the place of a device's number for a user who acts without one.
fn without_device(user_nid: i64) -> i64 {
    // Devices have positive numbers.
    -user_nid
}

/// The hash by which a token is stored.
pub(crate) fn hash_token(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Looks up access tokens.
#[derive(Clone, Debug)]
pub struct Sessions {
    database: Database,
    clock: Arc<dyn Clock>,
    cache: Arc<SessionCache>,
    last_seen: LastSeen,
    /// How long an entry of the cache is believed, in milliseconds.
    believed: i64,
    nodes: Nodes,
}

#[derive(Debug)]
struct SessionCache {
    sessions: Cache<TokenHash, Arc<Session>>,
    /// Counts the times that sessions were ended. What was read from the database before the last of them isn't
    /// remembered, as it may be what was ended.
    endings: Mutex<u64>,
}

impl Sessions {
    pub(crate) fn start(
        database: &Database,
        clock: &Arc<dyn Clock>,
        nodes: &Nodes,
        background: &Background,
    ) -> Self {
        let believed = match database.engine() {
            DatabaseEngine::Sqlite => i64::MAX,
            DatabaseEngine::Postgres => BELIEVED_WITH_OTHER_NODES,
        };
        Self {
            database: database.clone(),
            clock: Arc::clone(clock),
            cache: Arc::new(SessionCache {
                sessions: Cache::new(CACHED),
                endings: Mutex::new(0),
            }),
            last_seen: LastSeen::start(database, background),
            believed,
            nodes: nodes.clone(),
        }
    }

    /// Whose access token that is. Notes that the device was seen at `address`.
    ///
    /// # Errors
    /// `M_UNKNOWN_TOKEN`, a soft logout if the token was good once and expired.
    pub async fn authenticate(
        &self,
        access_token: &str,
        address: Option<IpAddr>,
    ) -> Result<Arc<Session>> {
        let hash = hash_token(access_token);
        let now = self.clock.now_ms();
        let cached = self.cache.sessions.get(&hash);
        let session = match cached.filter(|session| now < session.believed_until) {
            Some(session) => session,
            None => self.load(&hash, now).await?,
        };
        if session.expires_at.is_some_and(|end| end <= now) {
            return Err(EngineError::unknown_token(
                true,
                "the access token has expired",
            ));
        }
        self.note(&session, now, address);
        Ok(session)
    }

    async fn load(&self, hash: &TokenHash, now: i64) -> Result<Arc<Session>> {
        let endings = self.cache.endings();
        let owner = tokens::find_access_token(&self.database, hash)
            .await?
            .ok_or_else(|| EngineError::unknown_token(false, "the access token is not known"))?;
        let expired = owner.expires_at.is_some_and(|end| end <= now);
        if !owner.confirmed && !expired {
            self.confirm(owner.device_nid, owner.generation).await?;
            // Not remembered this time, as something was just ended; the next request will be.
            return Ok(Arc::new(self.session(owner, now)?));
        }
        let session = Arc::new(self.session(owner, now)?);
        self.cache.remember(hash, &session, endings);
        Ok(session)
    }

    /// Ends the tokens that came before those of a generation. It is done to the end, whether or not the request that it
    /// is done for is waited for.
    async fn confirm(&self, device_nid: i64, generation: i64) -> Result<()> {
        let sessions = self.clone();
        let confirming = tokio::spawn(async move {
            let mut transaction = sessions.database.write().await?;
            let ended =
                tokens::confirm_generation(&mut transaction, device_nid, generation).await?;
            transaction.commit().await?;
            sessions.end(&ended);
            Ok(())
        });
        confirming
            .await
            .map_err(|error| EngineError::Internal(error.to_string()))?
    }

    fn session(&self, owner: TokenOwner, now: i64) -> Result<Session> {
        Ok(Session {
            user_id: OwnedUserId::try_from(owner.user_id)
                .map_err(|error| StorageError::Corrupt(error.to_string()))?,
            user_nid: owner.user_nid,
            device_id: Some(owner.device_id.into()),
            device_nid: owner.device_nid,
            appservice: None,
            kind: AccountKind::from_stored(&owner.kind)?,
            admin: owner.admin,
            suspended: owner.suspended_at.is_some(),
            locked: owner.locked_at.is_some(),
            expires_at: owner.expires_at,
            believed_until: now.saturating_add(self.believed),
            noted_at: AtomicI64::new(owner.last_seen_at.unwrap_or_default()),
        })
    }

    /// Forgets access tokens that were ended. To be called after the transaction that ended them.
    pub(crate) fn end(&self, hashes: &[Vec<u8>]) {
        self.cache.end(hashes.iter().map(Vec::as_slice));
        for told in hashes.chunks(TOLD_AT_ONCE) {
            let hashes = told.iter().map(|hash| STANDARD_NO_PAD.encode(hash));
            self.nodes.tell(News::Ended {
                hashes: hashes.collect(),
            });
        }
    }

    /// Forgets everything about a user, whose account has changed. To be called after the transaction.
    pub(crate) fn forget_user(&self, user_nid: i64) {
        self.cache.forget_user(user_nid);
        self.nodes.tell(News::Account { user_nid });
    }

    fn note(&self, session: &Session, now: i64, address: Option<IpAddr>) {
        let before = session.noted_at.load(Ordering::Relaxed);
        let due = now.saturating_sub(before) >= last_seen::INTERVAL;
        if due
            && session
                .noted_at
                .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.last_seen.note(session.device_nid, now, address);
        }
    }
}

impl Listener for Sessions {
    fn heard(&self, _: u32, news: &News) {
        match news {
            News::Ended { hashes } => {
                let hashes: Vec<_> = hashes
                    .iter()
                    .filter_map(|hash| STANDARD_NO_PAD.decode(hash).ok())
                    .collect();
                self.cache.end(hashes.iter().map(Vec::as_slice));
            }
            News::Account { user_nid } => self.cache.forget_user(*user_nid),
            _ => {}
        }
    }

    /// What it didn't tell any more is not believed for long.
    fn gone(&self, _: u32) {}
}

impl SessionCache {
    fn endings(&self) -> u64 {
        *self.endings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a session, unless one was ended since `endings` was read.
    fn remember(&self, hash: &TokenHash, session: &Arc<Session>, endings: u64) {
        let now = self.endings.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == endings {
            self.sessions.insert(*hash, Arc::clone(session));
        }
    }

    /// Forgets access tokens by their hashes.
    fn end<'a>(&self, hashes: impl Iterator<Item = &'a [u8]>) {
        self.forget(|cache| {
            for hash in hashes {
                if let Ok(hash) = TokenHash::try_from(hash) {
                    cache.remove(&hash);
                }
            }
        });
    }

    fn forget_user(&self, user_nid: i64) {
        self.forget(|cache| cache.retain(|_, session| session.user_nid != user_nid));
    }

    fn forget(&self, remove: impl FnOnce(&Cache<TokenHash, Arc<Session>>)) {
        let mut endings = self.endings.lock().unwrap_or_else(PoisonError::into_inner);
        *endings += 1;
        remove(&self.sessions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_acts_without_a_device_has_a_number_that_nobody_else_has() {
        let session = |nid| Session::of_server(nid, ruma::user_id!("@a:x"));
        let (one, other) = (session(1), session(2));
        assert_ne!(one.device_nid, other.device_nid);
        assert!(one.device_nid < 0 && other.device_nid < 0);
    }
}
