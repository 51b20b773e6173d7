//! The one order of everything: positions, who waits for them, and the writing of them.
//!
//! A durable change gets its position from the group commit ([`committer`]); it is then *published*: taken over by the
//! rooms in memory and noted in the feeds of those it concerns ([`feeds`]), before [`Stream::position`] moves on and the
//! waiting are woken. So whoever reads the position sees, in memory or in the database, everything up to it. A wake-up
//! carries no data, just the news that there is some.

pub mod committer;
pub mod feeds;
pub mod follower;
pub mod nodes;
pub mod observer;
pub mod token;

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use tokio::sync::Notify;

/// How far the stream has come, as this node knows it.
#[derive(Debug)]
pub struct Stream {
    /// The last position that is published.
    position: AtomicI64,
    /// Counts what is fleeting: typing and presence.
    fleeting: AtomicU64,
    /// Held while a fleeting change is noted.
    fleeting_change: Mutex<()>,
    /// Tells the fleeting counters of nodes and starts apart.
    instance: u32,
    /// Rung when the position moves on.
    moved: Notify,
}

impl Stream {
    /// A stream that has come to `position`. `instance` is a random number, another at each start.
    pub fn new(position: i64, instance: u32) -> Self {
        Self {
            position: AtomicI64::new(position),
            fleeting: AtomicU64::new(1),
            fleeting_change: Mutex::new(()),
            instance,
            moved: Notify::new(),
        }
    }

    /// The last position that is published.
    pub fn position(&self) -> i64 {
        self.position.load(Ordering::Acquire)
    }

    /// The last count of what is fleeting.
    pub fn fleeting(&self) -> u64 {
        self.fleeting.load(Ordering::Acquire)
    }

    /// Counts one more fleeting change. `note` is given its number, and notes it in the feeds of those it concerns;
    /// only then do readers see the number. They are to be woken afterwards.
    pub fn change_fleeting<T>(&self, note: impl FnOnce(u64) -> T) -> T {
        let _one_at_a_time = self
            .fleeting_change
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = self.fleeting() + 1;
        let noted = note(count);
        self.fleeting.store(count, Ordering::Release);
        noted
    }

    /// Which start of which node this is.
    pub fn instance(&self) -> u32 {
        self.instance
    }

    /// Moves the position on. Everything up to it must be published.
    pub(crate) fn advance(&self, position: i64) {
        self.position.fetch_max(position, Ordering::AcqRel);
        self.moved.notify_waiters();
    }

    /// Waits until it is beyond a position.
    pub async fn beyond(&self, position: i64) {
        loop {
            let moved = self.moved.notified();
            if self.position() > position {
                return;
            }
            moved.await;
        }
    }
}
