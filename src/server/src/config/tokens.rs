//! `[tokens]`

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    duration::{self, DAY, HOUR, MINUTE},
    error::Invalid,
};

/// How long logins last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    /// Of an access token whose client also got a refresh token.
    #[serde(with = "duration")]
    pub access_token_lifetime: Duration,
    /// Of a refresh token that isn't used.
    #[serde(with = "duration")]
    pub refresh_token_lifetime: Duration,
    /// After which a device has to log in again, used or not; without it, never.
    #[serde(with = "duration::optional")]
    pub session_lifetime: Option<Duration>,
    /// Of the token by which one device logs another in (`m.login.token`).
    #[serde(with = "duration")]
    pub login_token_lifetime: Duration,
    /// Of the token by which a user proves who they are to a third party (OpenID).
    #[serde(with = "duration")]
    pub openid_token_lifetime: Duration,
    /// How long a step of user-interactive authentication may take.
    #[serde(with = "duration")]
    pub authentication_timeout: Duration,
    /// How many devices an account may have; 0 is as many as it likes.
    pub max_devices: u32,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            access_token_lifetime: HOUR,
            refresh_token_lifetime: DAY * 90,
            session_lifetime: None,
            login_token_lifetime: MINUTE * 2,
            openid_token_lifetime: HOUR,
            authentication_timeout: MINUTE * 15,
            max_devices: 500,
        }
    }
}

impl Tokens {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let lifetimes = [
            (
                "tokens.access_token_lifetime",
                Some(self.access_token_lifetime),
            ),
            (
                "tokens.refresh_token_lifetime",
                Some(self.refresh_token_lifetime),
            ),
            ("tokens.session_lifetime", self.session_lifetime),
            (
                "tokens.login_token_lifetime",
                Some(self.login_token_lifetime),
            ),
            (
                "tokens.openid_token_lifetime",
                Some(self.openid_token_lifetime),
            ),
            (
                "tokens.authentication_timeout",
                Some(self.authentication_timeout),
            ),
        ];
        let zero = lifetimes
            .iter()
            .find(|(_, lifetime)| lifetime.is_some_and(|l| l.is_zero()));
        if let Some((key, _)) = zero {
            return Err(Invalid::new(key, "must be longer than 0s"));
        }
        if self.refresh_token_lifetime < self.access_token_lifetime {
            return Err(Invalid::new(
                "tokens.refresh_token_lifetime",
                "must not be shorter than `tokens.access_token_lifetime`",
            ));
        }
        Ok(())
    }
}
