//! Receipts of users of other servers that come before the events that they're up to.
//!
//! A server tells both in one transaction, but the events are worked through after it is answered. Such receipts wait here
//! until their event is in the room's timeline. Only in memory, and not for ever: it may never come.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use ruma::{EventId, OwnedEventId, OwnedServerName};
use tokio::sync::Notify;

use super::RemoteReceipt;
use crate::{
    rooms::{room::Room, timeline::TimelineEvent},
    stream::observer::Observer,
};

/// Receipts that wait at once, of all servers and of one. What is more is dropped.
const MAX: usize = 10_000;
const MAX_OF_SERVER: usize = 500;
/// How long one waits, in milliseconds.
const PATIENCE_MS: i64 = 10 * 60 * 1_000;
/// How often it's looked for those that have waited so long.
const SWEEP_EVERY_MS: i64 = 60 * 1_000;

/// Receipts that wait for their events.
#[derive(Debug, Default)]
pub(crate) struct Early {
    inner: Mutex<Inner>,
    /// How many receipts wait, for who looks at each event. Written with `inner` locked.
    count: AtomicUsize,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: HashMap<OwnedEventId, Vec<Waiting>>,
    of_servers: HashMap<OwnedServerName, usize>,
    /// Those whose event has come.
    due: Vec<RemoteReceipt>,
    swept_at: i64,
}

#[derive(Debug)]
struct Waiting {
    receipt: RemoteReceipt,
    since: i64,
}

impl Early {
    /// Keeps a receipt until its event comes. Whoever calls has to look for the event afterwards: it may have come before.
    pub(super) fn keep(&self, receipt: RemoteReceipt, now: i64) {
        let mut inner = self.lock();
        if now - inner.swept_at >= SWEEP_EVERY_MS {
            inner.swept_at = now;
            self.count.fetch_sub(inner.sweep(now), Ordering::SeqCst);
        }
        let server = receipt.user_id.server_name().to_owned();
        let is_full = self.count.load(Ordering::SeqCst) >= MAX;
        let of_server = inner.of_servers.get(&server).copied().unwrap_or_default();
        if is_full || of_server >= MAX_OF_SERVER {
            return;
        }
        inner.of_servers.insert(server, of_server + 1);
        let event_id = receipt.event_id.clone();
        let waiting = Waiting {
            receipt,
            since: now,
        };
        inner.waiting.entry(event_id).or_default().push(waiting);
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Its event is there: what waits for it is due.
    pub(super) fn event_came(&self, event_id: &EventId) {
        let mut inner = self.lock();
        let Some(waiting) = inner.waiting.remove(event_id) else {
            return;
        };
        self.count.fetch_sub(waiting.len(), Ordering::SeqCst);
        for Waiting { receipt, .. } in waiting {
            inner.forget(&receipt);
            inner.due.push(receipt);
        }
        self.arrived.notify_one();
    }

    /// Waits for receipts whose event has come.
    pub(super) async fn due(&self) -> Vec<RemoteReceipt> {
        loop {
            let due = std::mem::take(&mut self.lock().due);
            if !due.is_empty() {
                return due;
            }
            self.arrived.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Early {
    fn event(&self, _room: &Room, event: &TimelineEvent) {
        if self.count.load(Ordering::SeqCst) > 0 {
            self.event_came(&event.event_id);
        }
    }
}

impl Inner {
    /// One less of a server.
    fn forget(&mut self, receipt: &RemoteReceipt) {
        let server = receipt.user_id.server_name().to_owned();
        if let Entry::Occupied(mut of_server) = self.of_servers.entry(server) {
            match *of_server.get() {
                0 | 1 => drop(of_server.remove()),
                _ => *of_server.get_mut() -= 1,
            }
        }
    }

    /// Drops what has waited too long; gives how much that was.
    fn sweep(&mut self, now: i64) -> usize {
        let mut old = Vec::new();
        self.waiting.retain(|_, waiting| {
            old.extend(waiting.extract_if(.., |one| now - one.since >= PATIENCE_MS));
            !waiting.is_empty()
        });
        for Waiting { receipt, .. } in &old {
            self.forget(receipt);
        }
        old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(user_id: &str, event: usize) -> RemoteReceipt {
        RemoteReceipt {
            room_id: "!r:x".try_into().unwrap(),
            user_id: user_id.try_into().unwrap(),
            event_id: format!("$e{event}").try_into().unwrap(),
            thread: None,
            received_at: 1,
        }
    }

    fn due(early: &Early) -> usize {
        std::mem::take(&mut early.lock().due).len()
    }

    #[test]
    fn a_receipt_is_due_when_its_event_has_come_and_once() {
        let early = Early::default();
        early.keep(receipt("@a:x", 1), 0);
        early.keep(receipt("@b:y", 1), 0);
        early.keep(receipt("@a:x", 2), 0);
        early.event_came(ruma::event_id!("$e3"));
        assert_eq!(due(&early), 0);
        early.event_came(ruma::event_id!("$e1"));
        early.event_came(ruma::event_id!("$e1"));
        assert_eq!(due(&early), 2);
        assert_eq!(early.count.load(Ordering::SeqCst), 1);
        assert_eq!(early.lock().of_servers.len(), 1);
    }

    #[test]
    fn one_server_can_not_take_the_place_of_all_others() {
        let early = Early::default();
        for event in 0..2 * MAX_OF_SERVER {
            early.keep(receipt("@a:x", event), 0);
        }
        early.keep(receipt("@b:y", 1), 0);
        assert_eq!(
            early.lock().of_servers.values().sum::<usize>(),
            MAX_OF_SERVER + 1
        );
    }

    #[test]
    fn what_has_waited_too_long_is_dropped() {
        let early = Early::default();
        early.keep(receipt("@a:x", 1), 0);
        early.keep(receipt("@a:x", 2), PATIENCE_MS);
        early.event_came(ruma::event_id!("$e1"));
        assert_eq!(due(&early), 0);
        early.event_came(ruma::event_id!("$e2"));
        assert_eq!(due(&early), 1);
        assert!(early.lock().of_servers.is_empty());
    }
}
