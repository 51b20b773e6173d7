//! `[sync]`

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    duration::{self, MINUTE},
    error::Invalid,
};

/// Limits of `/sync` and of sliding sync.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sync {
    /// The longest that a request waits for news; a client that asks for more gets this.
    #[serde(with = "duration")]
    pub max_timeout: Duration,
    /// Events per room where a filter doesn't say.
    pub default_timeline_limit: u32,
    /// Events per room at most, whatever a filter says.
    pub max_timeline_limit: u32,
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            max_timeout: MINUTE * 2,
            default_timeline_limit: 10,
            max_timeline_limit: 100,
        }
    }
}

impl Sync {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if self.default_timeline_limit == 0 {
            return Err(Invalid::new(
                "sync.default_timeline_limit",
                "must be at least 1",
            ));
        }
        if self.max_timeline_limit < self.default_timeline_limit {
            return Err(Invalid::new(
                "sync.max_timeline_limit",
                "must not be less than `sync.default_timeline_limit`",
            ));
        }
        Ok(())
    }
}
