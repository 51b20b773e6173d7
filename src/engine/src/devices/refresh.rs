//! Refreshing an access token.

use std::time::Duration;

use parley_storage::{accounts, tokens};

use super::{Devices, login::For};
use crate::{EngineError, Result, sessions::hash_token};

/// The tokens that a refresh token was exchanged for.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The token by which the device authenticates from now on.
    pub access_token: String,
    /// The token by which it gets the next.
    pub refresh_token: Option<String>,
    /// How long the access token lasts.
    pub expires_in: Option<Duration>,
}

impl Devices {
    /// Exchanges a refresh token for a new pair of tokens. It can be exchanged again until one of the pair is used; the
    /// pair that was never used ends then.
    ///
    /// # Errors
    /// `M_UNKNOWN_TOKEN`, a soft logout, if it isn't known, was exchanged for a pair that is in use, or has expired;
    /// `M_USER_LOCKED`.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Refreshed> {
        let now = self.clock.now_ms();
        let hash = hash_token(refresh_token);
        let mut transaction = self.database.write().await?;
        let token = tokens::find_refresh_token(&mut transaction, &hash)
            .await?
            .ok_or_else(|| unknown("the refresh token is not known or was used already"))?;
        let session_over = token.session_expires_at.is_some_and(|end| end <= now);
        if token.expires_at <= now || session_over {
            return Err(unknown("the refresh token has expired"));
        }
        let locked = accounts::is_locked(&mut transaction, token.user_nid).await?;
        if locked.unwrap_or(true) {
            return Err(EngineError::user_locked());
        }
        let device_nid = token.device_nid;
        let mut ended =
            tokens::confirm_generation(&mut transaction, device_nid, token.generation).await?;
        let unused =
            tokens::delete_later_generations(&mut transaction, device_nid, token.generation)
                .await?;
        ended.extend(unused);
        let wanted = For {
            user_nid: token.user_nid,
            device_nid,
            generation: token.generation + 1,
            refreshable: true,
            session_expires_at: token.session_expires_at,
        };
        let pair = self.make_pair(&mut transaction, wanted, now).await?;
        transaction.commit().await?;
        self.sessions.end(&ended);
        Ok(Refreshed {
            access_token: pair.access_token,
            refresh_token: pair.refresh_token,
            expires_in: pair.expires_in,
        })
    }
}

fn unknown(message: &'static str) -> EngineError {
    EngineError::unknown_token(true, message)
}
