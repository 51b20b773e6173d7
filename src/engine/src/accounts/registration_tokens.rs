//! Tokens that let those who have one register.

use parley_storage::registration_tokens;
use subtle::{Choice, ConstantTimeEq};

use super::Accounts;
use crate::Result;

impl Accounts {
    /// Whether someone could register by this token now.
    pub async fn is_registration_token_valid(&self, token: &str) -> Result<bool> {
        if self.is_configured(token) {
            return Ok(true);
        }
        // What can't be one isn't looked for: PostgreSQL refuses null characters.
        if token.contains('\0') {
            return Ok(false);
        }
        let found = registration_tokens::find(&self.database, token).await?;
        let now = self.clock.now_ms();
        Ok(found.is_some_and(|token| {
            let uses_left = token
                .uses_allowed
                .is_none_or(|allowed| token.uses_completed < allowed);
            let time_left = token.expires_at.is_none_or(|end| end > now);
            uses_left && time_left
        }))
    }

    /// Whether a token is one of the settings, which are never used up.
    pub(super) fn is_configured(&self, token: &str) -> bool {
        let configured = &self.settings.registration.tokens;
        let any = configured.iter().fold(Choice::from(0), |any, known| {
            any | known.expose().as_bytes().ct_eq(token.as_bytes())
        });
        any.into()
    }
}
