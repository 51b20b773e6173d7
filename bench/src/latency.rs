//! Latencies of many operations, kept as a histogram.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What takes longer than an hour counts as an hour, in microseconds.
const LONGEST: u64 = 3_600_000_000;

/// Latencies to a precision of one part in a thousand, in a memory that doesn't grow with their number.
#[derive(Debug)]
pub(crate) struct Latencies {
    microseconds: Histogram<u64>,
}

/// What a histogram amounts to, in milliseconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latencies {
    /// An empty histogram.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            microseconds: Histogram::new_with_bounds(1, LONGEST, 3)
                .context("making a histogram")?,
        })
    }

    /// Adds a latency; what is shorter than a microsecond counts as a microsecond.
    pub(crate) fn record(&mut self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.microseconds
            .saturating_record(microseconds.clamp(1, LONGEST));
    }

    /// The number of latencies recorded.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.microseconds.len()
    }

    /// The percentiles, or none if nothing was recorded.
    pub(crate) fn summary(&self) -> Option<Summary> {
        if self.microseconds.is_empty() {
            return None;
        }
        let at = |quantile| milliseconds(self.microseconds.value_at_quantile(quantile));
        Some(Summary {
            p50_ms: at(0.50),
            p90_ms: at(0.90),
            p99_ms: at(0.99),
            max_ms: milliseconds(self.microseconds.max()),
        })
    }
}

fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64) -> bool {
        (value - expected).abs() <= expected / 500.0
    }

    #[test]
    fn the_percentiles_of_one_to_a_thousand_milliseconds_are_their_ranks() {
        let mut latencies = Latencies::new().unwrap();
        for milliseconds in (1..=1000).rev() {
            latencies.record(Duration::from_millis(milliseconds));
        }
        let summary = latencies.summary().unwrap();
        assert_eq!(latencies.count(), 1000);
        assert!(near(summary.p50_ms, 500.0), "{summary:?}");
        assert!(near(summary.p90_ms, 900.0), "{summary:?}");
        assert!(near(summary.p99_ms, 990.0), "{summary:?}");
        assert!(near(summary.max_ms, 1000.0), "{summary:?}");
    }

    #[test]
    fn one_slow_answer_in_a_hundred_shows_in_the_maximum_only() {
        let mut latencies = Latencies::new().unwrap();
        for _ in 0..99 {
            latencies.record(Duration::from_micros(200));
        }
        latencies.record(Duration::from_secs(90));
        let summary = latencies.summary().unwrap();
        assert!(near(summary.p99_ms, 0.2), "{summary:?}");
        assert!(near(summary.max_ms, 90_000.0), "{summary:?}");
    }

    #[test]
    fn nothing_recorded_has_no_percentiles() {
        assert_eq!(Latencies::new().unwrap().summary(), None);
    }

    #[test]
    fn a_latency_of_zero_is_kept() {
        let mut latencies = Latencies::new().unwrap();
        latencies.record(Duration::ZERO);
        assert_eq!(latencies.count(), 1);
    }
}
