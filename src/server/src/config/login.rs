//! `[login]`

use serde::{Deserialize, Serialize};

/// How one can log in, beside by a password.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Login {
    /// Whether a user can have a token made that logs in another device, by giving their password again.
    pub by_token: bool,
}

impl Default for Login {
    fn default() -> Self {
        Self { by_token: true }
    }
}
