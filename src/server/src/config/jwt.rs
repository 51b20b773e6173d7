//! `[jwt]`

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Secret, error::Invalid};

/// Logging in by JSON Web Tokens of another service. It is on when there is a secret or a public key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// What signer and verifier share, for algorithms that begin with HS.
    pub secret: Option<Secret>,
    /// The file that holds the signer's public key, in PEM, for the other algorithms.
    pub public_key: Option<PathBuf>,
    /// The only algorithm that is taken.
    pub algorithm: String,
    /// The claim that holds the localpart of the user's ID.
    pub subject_claim: String,
    /// What `iss` has to be.
    pub issuer: Option<String>,
    /// Of which one has to be among `aud`.
    pub audiences: Vec<String>,
    /// Whether a user who has no account gets one.
    pub create_accounts: bool,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            secret: None,
            public_key: None,
            algorithm: "HS256".to_owned(),
            subject_claim: "sub".to_owned(),
            issuer: None,
            audiences: Vec::new(),
            create_accounts: true,
        }
    }
}

impl Jwt {
    /// The shortest secret that cannot be guessed from a token, in bytes.
    const MINIMUM_SECRET_LENGTH: usize = 16;

    pub(super) fn check(&self) -> Result<(), Invalid> {
        let secret = self.secret.as_ref().map(Secret::expose);
        if secret.is_some_and(|secret| secret.len() < Self::MINIMUM_SECRET_LENGTH) {
            return Err(Invalid::new(
                "jwt.secret",
                format!("must have at least {} bytes", Self::MINIMUM_SECRET_LENGTH),
            ));
        }
        Ok(())
    }
}
