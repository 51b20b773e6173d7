//! Measuring: what is counted while load runs, and what it amounts to.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    bench::Bench,
    http::Failure,
    latency::Latencies,
    process::{Watch, own_cpu},
    report::{Outcome, Title},
};

/// A task that meets this many errors one after the other gives up.
const TOO_MANY_ERRORS: u32 = 20;

/// Counts what happens between two moments; shared by all tasks that make load.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    begin: Instant,
    end: Instant,
    tally: Arc<Mutex<Tally>>,
}

/// What has been counted.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) latencies: Latencies,
    /// The operations done: messages sent, events read and so on, as the scenario has it.
    pub(crate) operations: u64,
    /// How many errors there were, by their kind.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// The errors that a task met without a success between them.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    errors: u32,
}

/// Processor time of the watched processes and of the load program itself, from one moment on.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    watched: &'a Watch,
    since: Instant,
    cpu: Option<Duration>,
    own: Duration,
}

/// What a [`Meter`] read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) wall: Duration,
    /// None if no process is watched.
    pub(crate) cpu: Option<Duration>,
    /// Of the load program.
    pub(crate) own: Duration,
}

impl Tally {
    fn new() -> Result<Self> {
        Ok(Self {
            latencies: Latencies::new()?,
            operations: 0,
            errors: BTreeMap::new(),
        })
    }
}

impl Recorder {
    /// Counts from now on.
    pub(crate) fn from_now() -> Result<Self> {
        let begin = Instant::now();
        let tally = Arc::new(Mutex::new(Tally::new()?));
        // Far enough away for every run; an `Instant` has no maximum.
        Ok(Self {
            begin,
            end: begin + Duration::from_secs(86_400),
            tally,
        })
    }

    /// Counts after the warm-up, for as long as is measured.
    pub(crate) fn after_warm_up(bench: &Bench) -> Result<Self> {
        let begin = Instant::now() + bench.options.send.warm_up;
        let tally = Arc::new(Mutex::new(Tally::new()?));
        Ok(Self {
            begin,
            end: begin + bench.options.send.duration,
            tally,
        })
    }

    /// Whether measuring is over.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// An operation begun at `begun` has its answer now: counts it, if that falls within the measured time, as
    /// `operations`.
    pub(crate) fn success(&self, begun: Instant, operations: u64) {
        let now = Instant::now();
        if now >= self.begin && now < self.end {
            let mut tally = self.tally();
            tally.latencies.record(now - begun);
            tally.operations += operations;
        }
    }

    /// Counts an operation whose time was taken elsewhere.
    pub(crate) fn lasted(&self, time: Duration) {
        let mut tally = self.tally();
        tally.latencies.record(time);
        tally.operations += 1;
    }

    /// An operation failed. These are counted at any time, so that a server that fails only under the
    /// warm-up's load doesn't look good.
    pub(crate) fn failure(&self, failure: &Failure) {
        *self.tally().errors.entry(failure.kind()).or_default() += 1;
    }

    /// What has been counted so far.
    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        // A count is complete whenever the lock is released, also by a panic.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Patience {
    /// Resets the count.
    pub(crate) fn success(&mut self) {
        self.errors = 0;
    }

    /// Whether it's time to give up.
    pub(crate) fn is_lost(&mut self) -> bool {
        self.errors += 1;
        self.errors >= TOO_MANY_ERRORS
    }
}

impl<'a> Meter<'a> {
    /// Starts now.
    pub(crate) fn start(watched: &'a Watch) -> Result<Self> {
        let cpu = if watched.is_empty() {
            None
        } else {
            Some(watched.cpu()?)
        };
        Ok(Self {
            watched,
            since: Instant::now(),
            cpu,
            own: own_cpu()?,
        })
    }

    /// What was used since the start.
    pub(crate) fn read(&self) -> Result<Reading> {
        let wall = self.since.elapsed();
        let own = own_cpu()?.saturating_sub(self.own);
        let cpu = match self.cpu {
            Some(before) => Some(self.watched.cpu()?.saturating_sub(before)),
            None => None,
        };
        Ok(Reading { wall, cpu, own })
    }
}

/// Runs the tasks, each of which ends by itself when the recorder is over, and measures meanwhile.
pub(crate) async fn under_load<F>(
    bench: &Bench,
    title: Title,
    recorder: &Recorder,
    tasks: impl IntoIterator<Item = F>,
) -> Result<Outcome>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut running: JoinSet<()> = tasks.into_iter().collect();
    tokio::time::sleep_until(recorder.begin).await;
    bench.say("measuring");
    let meter = Meter::start(&bench.watched)?;
    tokio::time::sleep_until(recorder.end).await;
    let reading = meter.read()?;
    while let Some(ended) = running.join_next().await {
        ended.context("a task of the load program failed")?;
    }
    let tally = recorder.tally();
    if tally.operations == 0 {
        bail!("nothing succeeded; errors: {:?}", tally.errors);
    }
    // The meter may have woken a little late, but what is counted ends on time.
    let measured = Reading {
        wall: recorder.end - recorder.begin,
        ..reading
    };
    Outcome::new(bench, title, &tally, measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_answered_within_the_measured_time_counts() {
        let now = Instant::now();
        let tally = Arc::new(Mutex::new(Tally::new().unwrap()));
        let hour = Duration::from_secs(3600);
        let at = |begin, end| Recorder {
            begin,
            end,
            tally: Arc::clone(&tally),
        };
        at(now + hour, now + 2 * hour).success(now, 1);
        at(now, now).success(now, 1);
        assert_eq!(tally.lock().unwrap().operations, 0);
        at(now, now + hour).success(now, 100);
        assert_eq!(tally.lock().unwrap().operations, 100);
        assert_eq!(tally.lock().unwrap().latencies.count(), 1);
    }

    #[test]
    fn errors_count_by_kind_even_before_the_measured_time() {
        let recorder = Recorder {
            begin: Instant::now() + TOO_LATE,
            ..Recorder::from_now().unwrap()
        };
        recorder.failure(&Failure::Timeout);
        recorder.failure(&Failure::Timeout);
        assert_eq!(
            recorder.tally().errors,
            BTreeMap::from([("timeout".to_owned(), 2)])
        );
    }

    const TOO_LATE: Duration = Duration::from_secs(3600);

    #[test]
    fn patience_is_lost_by_errors_in_a_row_only() {
        let mut patience = Patience::default();
        for _ in 0..10 {
            assert!((0..TOO_MANY_ERRORS - 1).all(|_| !patience.is_lost()));
            patience.success();
        }
        assert!((0..TOO_MANY_ERRORS).any(|_| patience.is_lost()));
    }
}
