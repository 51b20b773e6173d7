//! Logging a device in.

use std::time::Duration;

use parley_storage::{
    Transaction, devices,
    tokens::{self, NewAccessToken, RefreshToken},
};
use ruma::{OwnedDeviceId, OwnedUserId, UserId};

use super::Devices;
use crate::{Result, sessions::hash_token, text};

/// Letters of a device's ID that the server chooses.
const DEVICE_ID_LENGTH: usize = 10;
/// Characters of a token after its prefix: 256 bits.
const TOKEN_LENGTH: usize = 43;
/// Tokens begin with what they are, so that one that got into a log or a repository is recognised.
const ACCESS_PREFIX: &str = "pla_";
const REFRESH_PREFIX: &str = "plr_";

/// How a device wants to be logged in.
#[derive(Clone, Debug, Default)]
pub struct LoginOptions {
    /// The ID it had before, or wants to have.
    pub device_id: Option<OwnedDeviceId>,
    /// What it is called, if it is new.
    pub display_name: Option<String>,
    /// Whether it knows how to refresh its access token.
    pub refresh_token: bool,
}

/// What a device gets when it is logged in.
#[derive(Clone, Debug)]
pub struct Login {
    /// Who it is.
    pub user_id: OwnedUserId,
    /// Which device.
    pub device_id: OwnedDeviceId,
    /// The token by which it authenticates.
    pub access_token: String,
    /// The token by which it gets the next, if it asked for one.
    pub refresh_token: Option<String>,
    /// How long the access token lasts, if not until logout.
    pub expires_in: Option<Duration>,
}

/// A pair of tokens that was just made.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) access_token: String,
    pub(super) refresh_token: Option<String>,
    pub(super) expires_in: Option<Duration>,
}

/// What a pair of tokens is made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct For {
    pub(super) user_nid: i64,
    pub(super) device_nid: i64,
    pub(super) generation: i64,
    pub(super) refreshable: bool,
    pub(super) session_expires_at: Option<i64>,
}

impl Devices {
    /// Logs a device of a user in. One that was logged in already gets a new token, and its old ones end.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if the device's ID or name can't be, `M_USER_LIMIT_EXCEEDED`.
    pub async fn log_in(
        &self,
        user_nid: i64,
        user_id: &UserId,
        options: LoginOptions,
    ) -> Result<Login> {
        if let Some(device_id) = &options.device_id {
            text::check_device_id(device_id)?;
        }
        if let Some(name) = &options.display_name {
            text::check_device_name(name)?;
        }
        let now = self.clock.now_ms();
        let device_id = options
            .device_id
            .unwrap_or_else(|| self.random.upper_case(DEVICE_ID_LENGTH).into());
        let mut transaction = self.database.write().await?;
        let known = devices::find_in(&mut transaction, user_nid, device_id.as_str()).await?;
        let mut ended = Vec::new();
        let device_nid = match known {
            Some(nid) => {
                ended = tokens::delete_of_devices(&mut transaction, vec![nid]).await?;
                nid
            }
            None => {
                self.check_count(&mut transaction, user_nid).await?;
                let name = options.display_name.as_deref();
                devices::insert(&mut transaction, user_nid, device_id.as_str(), name, now).await?
            }
        };
        let wanted = For {
            user_nid,
            device_nid,
            generation: 0,
            refreshable: options.refresh_token,
            session_expires_at: self.settings.session_lifetime.map(|life| later(now, life)),
        };
        let pair = self.make_pair(&mut transaction, wanted, now).await?;
        transaction.commit().await?;
        self.sessions.end(&ended);
        Ok(Login {
            user_id: user_id.to_owned(),
            device_id,
            access_token: pair.access_token,
            refresh_token: pair.refresh_token,
            expires_in: pair.expires_in,
        })
    }

    pub(super) async fn check_count(
        &self,
        transaction: &mut Transaction,
        user_nid: i64,
    ) -> Result<()> {
        let count = devices::count(transaction, user_nid).await?;
        self.limits.check(count, self.settings.max_devices, || {
            "you have too many devices, log some of them out first".to_owned()
        })
    }

    /// Makes an access token, and a refresh token beside it if wanted.
    pub(super) async fn make_pair(
        &self,
        transaction: &mut Transaction,
        wanted: For,
        now: i64,
    ) -> Result<Pair> {
        let access_token = format!("{ACCESS_PREFIX}{}", self.random.alphanumeric(TOKEN_LENGTH));
        let mut refresh_token = None;
        let mut expires_at = wanted.session_expires_at;
        if wanted.refreshable {
            let token = format!("{REFRESH_PREFIX}{}", self.random.alphanumeric(TOKEN_LENGTH));
            let row = RefreshToken {
                hash: hash_token(&token),
                user_nid: wanted.user_nid,
                device_nid: wanted.device_nid,
                generation: wanted.generation,
                created_at: now,
                expires_at: later(now, self.settings.refresh_token_lifetime),
                session_expires_at: wanted.session_expires_at,
            };
            tokens::insert_refresh_token(transaction, &row).await?;
            refresh_token = Some(token);
            let end = later(now, self.settings.access_token_lifetime);
            expires_at = Some(expires_at.map_or(end, |session_end| session_end.min(end)));
        }
        let row = NewAccessToken {
            hash: hash_token(&access_token),
            user_nid: wanted.user_nid,
            device_nid: wanted.device_nid,
            generation: wanted.generation,
            created_at: now,
            expires_at,
        };
        tokens::insert_access_token(transaction, &row).await?;
        Ok(Pair {
            access_token,
            refresh_token,
            expires_in: expires_at.map(|end| {
                Duration::from_millis(u64::try_from(end.saturating_sub(now)).unwrap_or_default())
            }),
        })
    }
}

/// A time after `now`, within what can be stored.
pub(super) fn later(now: i64, lifetime: Duration) -> i64 {
    let lifetime = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
    now.saturating_add(lifetime)
}
