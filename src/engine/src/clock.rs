//! The time, as a parameter: what depends on it can be tested without waiting.

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering},
};

use ruma::{MilliSecondsSinceUnixEpoch, UInt};

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Milliseconds since the Unix epoch, the form in which times are stored and sent.
    fn now_ms(&self) -> i64;

    /// The same in ruma's type.
    fn now(&self) -> MilliSecondsSinceUnixEpoch {
        timestamp(self.now_ms())
    }
}

/// A stored time in ruma's type. Times before 1970 and after the year 280,000 don't occur.
pub fn timestamp(milliseconds: i64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::try_from(milliseconds).unwrap_or_default())
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        i64::from(MilliSecondsSinceUnixEpoch::now().get())
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `milliseconds` since the Unix epoch.
    pub fn new(milliseconds: i64) -> Self {
        Self {
            now: AtomicI64::new(milliseconds),
        }
    }

    /// Moves it on.
    pub fn advance(&self, by: std::time::Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.now.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }
}
