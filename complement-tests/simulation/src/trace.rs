//! What happened, as lines of text.

use std::sync::{Mutex, PoisonError};

use crate::chance::mixed;

/// The lines, in the order in which things happened.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Since the last moment of quiet.
    fresh: Vec<String>,
    lines: Vec<String>,
    hash: u64,
}

impl Trace {
    /// Something happened.
    pub(crate) fn note(&self, line: String) {
        self.with(|inner| inner.fresh.push(line));
    }

    /// All is quiet.
    pub(crate) fn settle(&self, now: u64) {
        self.with(|inner| {
            for line in std::mem::take(&mut inner.fresh) {
                let line = format!("{now:>8} {line}");
                inner.hash = mixed(inner.hash, line.as_bytes());
                inner.lines.push(line);
            }
        });
    }

    /// What distinguishes this run from another.
    pub(crate) fn hash(&self) -> u64 {
        self.with(|inner| inner.hash)
    }

    /// All lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.with(|inner| inner.lines.clone())
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Inner) -> T) -> T {
        use_it(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
