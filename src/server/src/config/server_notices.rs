//! `[server_notices]`

use ruma::{OwnedMxcUri, UserId};
use serde::{Deserialize, Serialize};

use super::error::Invalid;

/// As whom the server writes to its users. It does so if there is a `localpart`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerNotices {
    /// The part of the user ID before the colon.
    pub localpart: Option<String>,
    /// The name that the user goes by.
    pub display_name: String,
    /// The name of the rooms.
    pub room_name: String,
    /// Their topic.
    pub room_topic: Option<String>,
    /// The picture of user and rooms.
    pub avatar_url: Option<OwnedMxcUri>,
}

impl Default for ServerNotices {
    fn default() -> Self {
        Self {
            localpart: None,
            display_name: "Server Notices".to_owned(),
            room_name: "Server Notices".to_owned(),
            room_topic: None,
            avatar_url: None,
        }
    }
}

impl ServerNotices {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let allowed = |character: char| {
            character.is_ascii_lowercase()
                || character.is_ascii_digit()
                || "._=-/+".contains(character)
        };
        let sensible = |name: &String| {
            !name.is_empty()
                && name.chars().all(allowed)
                && UserId::parse(format!("@{name}:localhost")).is_ok()
        };
        if self.localpart.as_ref().is_some_and(|name| !sensible(name)) {
            return Err(Invalid::new(
                "server_notices.localpart",
                "expected a user name of the characters a-z 0-9 . _ = - / +",
            ));
        }
        if self.avatar_url.as_ref().is_some_and(|url| !url.is_valid()) {
            return Err(Invalid::new(
                "server_notices.avatar_url",
                "expected an address of uploaded media, such as mxc://example.org/picture",
            ));
        }
        Ok(())
    }
}
