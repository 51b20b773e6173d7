//! `[registration]`

use serde::{Deserialize, Serialize};

use super::{Secret, error::Invalid};

/// Who may create an account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    /// Who may register through the client-server API.
    pub mode: RegistrationMode,
    /// Tokens that let anyone who has one register as often as they like.
    ///
    /// Tokens with an end or a limit are made by the admin API.
    pub tokens: Vec<Secret>,
    /// With it, scripts create accounts through `/_synapse/admin/v1/register` in any mode.
    pub shared_secret: Option<Secret>,
}

/// Who may register through the client-server API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegistrationMode {
    /// No one. Administrators create the accounts.
    #[default]
    Closed,
    /// Whoever has a registration token.
    Token,
    /// Anyone, machines included. Such servers are found and abused within days.
    OpenWithoutVerification,
}

impl Registration {
    /// The shortest secret that cannot be guessed at network speed, in characters.
    const MINIMUM_SECRET_LENGTH: usize = 8;

    pub(super) fn check(&self) -> Result<(), Invalid> {
        // What `GET /_matrix/client/v1/register/m.login.registration_token/validity` accepts.
        let valid = |token: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
            (1..=64).contains(&token.len()) && token.chars().all(allowed)
        };
        if !self.tokens.iter().all(|token| valid(token.expose())) {
            return Err(Invalid::new(
                "registration.tokens",
                "a token is 1 to 64 of the characters A-Z a-z 0-9 . _ ~ -",
            ));
        }
        let secret = self.shared_secret.as_ref().map(Secret::expose);
        if secret.is_some_and(|secret| secret.chars().count() < Self::MINIMUM_SECRET_LENGTH) {
            return Err(Invalid::new(
                "registration.shared_secret",
                format!(
                    "must have at least {} characters",
                    Self::MINIMUM_SECRET_LENGTH
                ),
            ));
        }
        Ok(())
    }
}
