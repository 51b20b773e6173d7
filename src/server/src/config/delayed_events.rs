//! `[delayed_events]`

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    duration::{self, DAY},
    error::Invalid,
};

/// Which events may be sent later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DelayedEvents {
    /// The longest delay.
    #[serde(with = "duration")]
    pub max_delay: Duration,
    /// How many a user may have scheduled at once; with 0 nobody schedules any.
    pub max_scheduled: u32,
}

impl Default for DelayedEvents {
    fn default() -> Self {
        Self {
            max_delay: DAY,
            max_scheduled: 100,
        }
    }
}

impl DelayedEvents {
    /// Longer than anyone plans ahead, and far from where times overflow.
    const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

    pub(super) fn check(&self) -> Result<(), Invalid> {
        if self.max_delay.is_zero() || self.max_delay > Self::LONGEST {
            return Err(Invalid::new(
                "delayed_events.max_delay",
                "must be longer than 0s, and at most ten years",
            ));
        }
        Ok(())
    }
}
