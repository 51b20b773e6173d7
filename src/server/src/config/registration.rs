//! `[registration]`

use serde::{Deserialize, Serialize};
use url::Url;

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
    /// Whether anyone may have a guest account.
    pub guests: bool,
    /// What has to be agreed to, a document for each language.
    pub terms: Vec<Policy>,
}

/// A document that has to be agreed to, in one language.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// What kind of document it is, the same in every language.
    pub id: String,
    /// Its version; all languages have the same.
    pub version: String,
    /// The language, as in BCP 47.
    pub language: String,
    /// Its title.
    pub name: String,
    /// Where it can be read.
    pub url: Url,
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
        self.check_terms()
    }

    fn check_terms(&self) -> Result<(), Invalid> {
        let refuse = |message: &str| Err(Invalid::new("registration.terms", message));
        for (index, policy) in self.terms.iter().enumerate() {
            let texts = [&policy.id, &policy.version, &policy.language, &policy.name];
            if texts.iter().any(|text| text.is_empty()) || policy.language == "version" {
                return refuse("`id`, `version`, `language` and `name` say something each");
            }
            for other in &self.terms[..index] {
                if other.id != policy.id {
                    continue;
                }
                if other.version != policy.version {
                    return refuse("a document has the same version in all languages");
                }
                if other.language == policy.language {
                    return refuse("a document is there once in each language");
                }
            }
        }
        Ok(())
    }
}
