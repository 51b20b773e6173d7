//! The count itself: what of a room somebody hasn't read, by thread.

use std::collections::BTreeMap;

use parley_storage::unread::UnreadRow;
use ruma::OwnedEventId;

use super::{Count, Counts};
use crate::receipts::ReadUpTo;

/// The name of what is in no thread.
pub(super) const MAIN: &str = "main";

/// What of a room somebody hasn't read.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    /// Everything up to here is counted.
    pub(super) counted_to: i64,
    /// Everything up to here is read, whatever the thread.
    read_to: i64,
    threads: BTreeMap<Box<str>, Thread>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Thread {
    /// Everything of the thread up to here is read.
    read_to: i64,
    /// The newest event that is counted, or a position after it.
    newest: i64,
    count: Count,
}

impl Counter {
    /// Begins to count after `start`.
    pub(super) fn new(start: i64, read: &ReadUpTo) -> Self {
        let mut counter = Self {
            counted_to: start,
            read_to: start,
            threads: BTreeMap::new(),
        };
        counter.read(read);
        counter
    }

    /// Goes on from a checkpoint.
    pub(super) fn from_rows(rows: Vec<UnreadRow>) -> Option<Self> {
        let counted_to = rows.first()?.counted_to;
        let mut counter = Self {
            counted_to,
            read_to: 0,
            threads: BTreeMap::new(),
        };
        for row in rows {
            let number = |number: i64| u64::try_from(number).unwrap_or_default();
            let thread = Thread {
                read_to: row.read_to,
                newest: counted_to,
                count: Count {
                    notifications: number(row.notifications),
                    highlights: number(row.highlights),
                },
            };
            counter.threads.insert(row.thread.into(), thread);
        }
        Some(counter)
    }

    /// The checkpoint of this.
    pub(super) fn rows(&self, user_nid: i64, room_nid: i64) -> Vec<UnreadRow> {
        let row = |(name, thread): (&str, Thread)| UnreadRow {
            user_nid,
            room_nid,
            thread: name.to_owned(),
            read_to: thread.read_to.max(self.read_to),
            counted_to: self.counted_to,
            notifications: i64::try_from(thread.count.notifications).unwrap_or(i64::MAX),
            highlights: i64::try_from(thread.count.highlights).unwrap_or(i64::MAX),
        };
        let main = self.threads.get(MAIN).copied().unwrap_or_default();
        let threads = self
            .threads
            .iter()
            .filter(|(name, thread)| name.as_ref() != MAIN && thread.count.notifications > 0);
        std::iter::once((MAIN, main))
            .chain(threads.map(|(name, thread)| (name.as_ref(), *thread)))
            .map(row)
            .collect()
    }

    /// Takes in how far the user has read by now. False if some of what is counted is read and some is not: then all has
    /// to be counted anew.
    pub(super) fn read(&mut self, read: &ReadUpTo) -> bool {
        let mut good = true;
        if read.unthreaded > self.read_to {
            self.read_to = read.unthreaded;
            for thread in self.threads.values_mut() {
                good &= thread.read(read.unthreaded);
            }
        }
        for (name, position) in &read.threads {
            if *position > self.read_to {
                let thread = self.threads.entry(name.as_str().into()).or_default();
                good &= thread.read(*position);
            }
        }
        good
    }

    /// Notes that the user has read everything up to here, by coming only now.
    pub(super) fn begin(&mut self, position: i64) {
        self.read_to = self.read_to.max(position);
        self.threads.clear();
    }

    /// Notes that the user has written in a thread, and so read it up to there.
    pub(super) fn wrote(&mut self, thread: &str, position: i64) {
        let thread = self.threads.entry(thread.into()).or_default();
        thread.read(position);
    }

    /// Counts an event that notifies, unless it is read.
    pub(super) fn add(&mut self, thread: &str, position: i64, highlight: bool) {
        if position <= self.read_to {
            return;
        }
        let thread = self.threads.entry(thread.into()).or_default();
        if position <= thread.read_to {
            return;
        }
        thread.newest = position;
        thread.count.notifications += 1;
        thread.count.highlights += u64::from(highlight);
    }

    /// Whether the event at a position may be among those that are counted.
    pub(super) fn may_count(&self, position: i64) -> bool {
        let counted = |thread: &Thread| {
            thread.count.notifications > 0 && position > thread.read_to && position <= thread.newest
        };
        position > self.read_to && self.threads.values().any(counted)
    }

    /// What is unread.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (name, thread) in &self.threads {
            counts.total.notifications += thread.count.notifications;
            counts.total.highlights += thread.count.highlights;
            if name.as_ref() == MAIN {
                counts.main = thread.count;
            } else if thread.count.notifications > 0
                && let Ok(root) = OwnedEventId::try_from(name.as_ref())
            {
                counts.threads.insert(root, thread.count);
            }
        }
        counts
    }
}

impl Thread {
    /// See [`Counter::read`].
    fn read(&mut self, position: i64) -> bool {
        if position <= self.read_to {
            return true;
        }
        self.read_to = position;
        if position >= self.newest {
            self.count = Count::default();
            return true;
        }
        self.count.notifications == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unthreaded(position: i64) -> ReadUpTo {
        ReadUpTo {
            unthreaded: position,
            threads: BTreeMap::new(),
        }
    }

    fn threaded(thread: &str, position: i64) -> ReadUpTo {
        ReadUpTo {
            unthreaded: 0,
            threads: BTreeMap::from([(thread.to_owned(), position)]),
        }
    }

    /// Three events in the main timeline, the last highlighted, and two in a thread.
    fn counter() -> Counter {
        let mut counter = Counter::new(0, &ReadUpTo::default());
        counter.add(MAIN, 1, false);
        counter.add("$t", 2, false);
        counter.add(MAIN, 3, false);
        counter.add("$t", 4, true);
        counter.add(MAIN, 5, true);
        counter.counted_to = 9;
        counter
    }

    fn of(notifications: u64, highlights: u64) -> Count {
        Count {
            notifications,
            highlights,
        }
    }

    #[test]
    fn a_receipt_at_the_newest_event_leaves_nothing() {
        let mut counter = counter();
        assert_eq!(counter.counts().total, of(5, 2));
        assert!(counter.read(&unthreaded(5)));
        assert_eq!(counter.counts(), Counts::default());
    }

    #[test]
    fn a_receipt_of_a_thread_leaves_the_others() {
        let mut counter = counter();
        assert!(counter.read(&threaded("$t", 4)));
        assert_eq!(counter.counts().total, of(3, 1));
        assert!(counter.counts().threads.is_empty());
        assert!(counter.read(&threaded(MAIN, 5)));
        assert_eq!(counter.counts(), Counts::default());
    }

    #[test]
    fn a_receipt_amid_what_is_counted_has_it_counted_anew() {
        assert!(!counter().read(&unthreaded(3)));
        assert!(!counter().read(&threaded("$t", 2)));
        let mut counter = Counter::new(0, &threaded("$t", 2));
        for position in [2, 4] {
            counter.add("$t", position, false);
        }
        assert_eq!(counter.counts().total, of(1, 0));
    }

    #[test]
    fn who_writes_has_read_the_thread_they_write_in() {
        let mut counter = counter();
        counter.wrote("$t", 6);
        assert_eq!(counter.counts().total, of(3, 1));
        counter.add("$t", 7, false);
        assert_eq!(counter.counts().threads.len(), 1);
    }

    #[test]
    fn only_a_redaction_of_what_is_counted_matters() {
        let mut counter = counter();
        assert!(counter.may_count(3));
        assert!(!counter.may_count(6));
        counter.read(&unthreaded(5));
        assert!(!counter.may_count(3));
    }

    #[test]
    fn a_checkpoint_gives_the_same_counts() {
        let counter = counter();
        let mut again = Counter::from_rows(counter.rows(1, 2)).unwrap();
        assert_eq!(again.counts(), counter.counts());
        assert_eq!(again.counted_to, 9);
        assert!(again.read(&unthreaded(9)));
        assert_eq!(again.counts(), Counts::default());
    }
}
