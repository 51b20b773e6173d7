//! `[limits]`

use serde::{Deserialize, Serialize};
use url::Url;

use super::{error::Invalid, size};

/// How much an account may have. Where not said otherwise, 0 is as much as it likes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// A page that users are shown who have reached a limit.
    pub info_url: Option<Url>,
    /// Aliases of one room.
    pub aliases_per_room: u32,
    /// Aliases that one user has made.
    pub aliases_per_user: u32,
    /// Pieces of account data, of all rooms.
    pub account_data: u32,
    /// Bytes of one piece of account data.
    #[serde(with = "size")]
    pub account_data_size: u64,
    /// Stored filters.
    pub filters: u32,
    /// Bytes of a profile.
    #[serde(with = "size")]
    pub profile_size: u64,
    /// Pushers.
    pub pushers: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            info_url: None,
            aliases_per_room: 1_000,
            aliases_per_user: 1_000,
            account_data: 50_000,
            account_data_size: 256 * 1024,
            filters: 200,
            profile_size: 64 * 1024,
            pushers: 100,
        }
    }
}

impl Limits {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        // Push rules and the list of direct chats are pieces of account data too.
        if !(16 * 1024..=16 * 1024 * 1024).contains(&self.account_data_size) {
            return Err(Invalid::new(
                "limits.account_data_size",
                "must be from 16 KiB to 16 MiB",
            ));
        }
        if !(1024..=64 * 1024).contains(&self.profile_size) {
            return Err(Invalid::new(
                "limits.profile_size",
                "must be from 1 KiB to 64 KiB, which the specification allows",
            ));
        }
        let shown = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        if self.info_url.as_ref().is_some_and(|url| !shown(url)) {
            return Err(Invalid::new(
                "limits.info_url",
                "expected an address that begins with https:// or http://",
            ));
        }
        Ok(())
    }
}
