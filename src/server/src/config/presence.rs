//! `[presence]`

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration::{self, MINUTE, SECOND};

/// Whether and when users count as online.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Presence {
    /// Off, everyone is offline and nothing is sent about it.
    pub enabled: bool,
    /// A user who hasn't been active for that long becomes unavailable.
    #[serde(with = "duration")]
    pub unavailable_after: Duration,
    /// A user whose clients haven't been heard of for that long becomes offline.
    #[serde(with = "duration")]
    pub offline_after: Duration,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            enabled: true,
            unavailable_after: MINUTE * 5,
            offline_after: SECOND * 30,
        }
    }
}
