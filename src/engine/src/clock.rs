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

/// Times of which no two are the same: each is the present, or the millisecond after the last one given.
#[derive(Debug, Default)]
pub struct DistinctTimes {
    last: AtomicI64,
}

impl DistinctTimes {
    /// The next of them.
    pub fn next(&self, clock: &dyn Clock) -> MilliSecondsSinceUnixEpoch {
        let now = clock.now_ms();
        let later = |last: i64| now.max(last.saturating_add(1));
        let order = Ordering::Relaxed;
        let last = self
            .last
            .fetch_update(order, order, |last| Some(later(last)))
            .unwrap_or_else(|last| last);
        timestamp(later(last))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_times_follow_the_clock_and_never_repeat() {
        let clock = ManualClock::new(1_000);
        let times = DistinctTimes::default();
        let next = || i64::from(times.next(&clock).get());
        assert_eq!([next(), next(), next()], [1_000, 1_001, 1_002]);
        clock.advance(std::time::Duration::from_millis(2));
        assert_eq!(
            next(),
            1_003,
            "the clock has not yet come past the last one"
        );
        clock.advance(std::time::Duration::from_secs(1));
        assert_eq!(next(), 2_002);
    }
}
