//! Who moves time on, and when.
//!
//! Nothing happens by itself here: the clock of the runtime stands still, and is moved on, to the next moment at which
//! something is due, once all servers are *quiet*: no task is ready. There is one thread that matters: databases answer those
//! who ask on the spot. So how fast the machine is doesn't matter, and what is under way at once is what the network has under
//! way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use parley_engine::clock::ManualClock;
use tokio::{runtime::Runtime, sync::Notify, task::JoinHandle};

use crate::{network::Network, trace::Trace};

/// Tells when nothing is under way any more.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    waiting: AtomicBool,
    reached: Notify,
}

impl Quiet {
    /// The runtime that everything runs on, all tasks on one thread.
    pub(crate) fn runtime(self: &Arc<Self>) -> std::io::Result<Runtime> {
        let quiet = Arc::clone(self);
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            // It keeps the clock, and has nothing else to do.
            .max_blocking_threads(1)
            .on_thread_park(move || quiet.idle())
            .build()
    }

    /// No task is ready.
    fn idle(&self) {
        if self.waiting.swap(false, Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }

    /// Waits until nothing is under way.
    async fn wait(&self) {
        self.waiting.store(true, Ordering::SeqCst);
        self.reached.notified().await;
    }
}

/// Keeps the runtime's clock from moving on by itself whenever no task is ready: the network and the users come first.
#[derive(Debug)]
struct Brake {
    _held: mpsc::Sender<()>,
    _thread: JoinHandle<()>,
}

impl Brake {
    fn set() -> Self {
        let (held, until) = mpsc::channel::<()>();
        let thread = tokio::task::spawn_blocking(move || {
            let _ = until.recv();
        });
        Self {
            _held: held,
            _thread: thread,
        }
    }
}

/// Moves time on.
#[derive(Debug)]
pub(crate) struct Time {
    quiet: Arc<Quiet>,
    network: Arc<Network>,
    trace: Arc<Trace>,
    clocks: Vec<Arc<ManualClock>>,
    now: u64,
    _brake: Brake,
}

impl Time {
    /// Begins at 0. To be called in the runtime of `quiet`.
    pub(crate) fn start(quiet: &Arc<Quiet>, network: &Arc<Network>, trace: &Arc<Trace>) -> Self {
        Self {
            quiet: Arc::clone(quiet),
            network: Arc::clone(network),
            trace: Arc::clone(trace),
            clocks: Vec::new(),
            now: 0,
            _brake: Brake::set(),
        }
    }

    /// Milliseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// A clock that goes `ahead` milliseconds before others.
    pub(crate) fn clock(&mut self, ahead: i64) -> Arc<ManualClock> {
        const START_MS: i64 = 1_700_000_000_000;
        let now = i64::try_from(self.now).unwrap_or(i64::MAX);
        let clock = Arc::new(ManualClock::new(START_MS + ahead + now));
        self.clocks.push(Arc::clone(&clock));
        clock
    }

    /// Waits until all servers have done what they can do now.
    pub(crate) async fn quiet(&self) {
        self.quiet.wait().await;
        self.trace.settle(self.now);
    }

    /// Lets time pass, at most `tick` milliseconds at once: timers go off, the network brings what is due, one after the other.
    pub(crate) async fn pass(&mut self, milliseconds: u64, tick: u64) {
        let end = self.now + milliseconds;
        // What was begun has to come to where it waits for time, or it would depend on how fast that goes.
        self.quiet().await;
        self.bring_due().await;
        while self.now < end {
            let next = self.network.next_due().unwrap_or(end);
            let next = next.clamp(self.now + 1, end.min(self.now + tick));
            let step = Duration::from_millis(next - self.now);
            self.now = next;
            self.network.set_now(next);
            for clock in &self.clocks {
                clock.advance(step);
            }
            tokio::time::advance(step).await;
            self.quiet().await;
            self.bring_due().await;
        }
    }

    async fn bring_due(&self) {
        while self.network.bring_next() {
            self.quiet().await;
        }
    }
}
