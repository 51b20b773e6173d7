//! `[turn]`

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Secret, duration, error::Invalid};

/// The TURN servers that relay calls. There are some if there are `uris`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Turn {
    /// Their addresses, `turn:` or `turns:`.
    pub uris: Vec<String>,
    /// What they share with this server, to know by it whom it has given credentials.
    pub shared_secret: Option<Secret>,
    /// One name for all users, where they share no secret.
    pub username: Option<String>,
    /// The password of that name.
    pub password: Option<Secret>,
    /// How long credentials hold.
    #[serde(with = "duration")]
    pub lifetime: Duration,
    /// Whether calls of guests are relayed, too.
    pub guests: bool,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            uris: Vec::new(),
            shared_secret: None,
            username: None,
            password: None,
            lifetime: Duration::from_secs(24 * 60 * 60),
            guests: false,
        }
    }
}

impl Turn {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let is_turn = |uri: &String| uri.starts_with("turn:") || uri.starts_with("turns:");
        if !self.uris.iter().all(is_turn) {
            return Err(Invalid::new(
                "turn.uris",
                "expected addresses such as turn:turn.example.org:3478?transport=udp",
            ));
        }
        let has_password = self.username.is_some() && self.password.is_some();
        if !self.uris.is_empty() && self.shared_secret.is_none() && !has_password {
            return Err(Invalid::new(
                "turn.shared_secret",
                "TURN servers need it, or turn.username and turn.password",
            ));
        }
        Ok(())
    }
}
