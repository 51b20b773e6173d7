//! Saying once, and not each time, that something is wrong with another server.

use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::sync::Cache;
use ruma::{OwnedServerName, RoomId, ServerName};

use crate::clock::Clock;

/// Servers that are remembered.
const REMEMBERED: usize = 1_000;
/// How long nothing more is said of a server.
const PAUSE_MS: i64 = 10 * 60 * 1_000;
/// As often something is said in that time, of all servers: anybody can come with any number of names.
const MOST: u64 = 100;

/// What is said of other servers in the log.
#[derive(Debug)]
pub struct Complaints {
    clock: Arc<dyn Clock>,
    servers: Cache<OwnedServerName, Arc<Mutex<Said>>>,
    /// Since when is counted how often something was said, and how often it was.
    all: Mutex<(i64, u64)>,
}

/// When something was last said of a server, and how much was not said since.
#[derive(Debug, Default)]
struct Said {
    at: Option<i64>,
    since: u64,
}

impl Complaints {
    /// Nothing was said so far.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            servers: Cache::new(REMEMBERED),
            all: Mutex::default(),
        }
    }

    /// Notes that an event of `server` isn't taken, for a reason of a few words (`kind`). The first is told to the
    /// administrator, with how many there were since the last time.
    pub(crate) fn about(
        &self,
        server: &ServerName,
        room: &RoomId,
        kind: &'static str,
        reason: &str,
    ) {
        metrics::counter!("parley_dropped_events_total", "reason" => kind).increment(1);
        tracing::debug!(%server, %room, kind, reason, "an event isn't taken");
        if let Some(before) = self.is_due(server) {
            tracing::warn!(
                %server, %room, kind, reason, before,
                "another server sends events that can't be taken; what more there is of it is not said for 10 minutes"
            );
        }
    }

    /// If it is time to say something of a server, how often nothing was said of it since the last time.
    pub fn is_due(&self, server: &ServerName) -> Option<u64> {
        let now = self.clock.now_ms();
        let fresh = || Ok::<_, std::convert::Infallible>(Arc::default());
        let Ok(said) = self.servers.get_or_insert_with(server, fresh);
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.at.is_some_and(|at| now - at < PAUSE_MS) || !self.may_be_said(now) {
            said.since += 1;
            return None;
        }
        said.at = Some(now);
        Some(std::mem::take(&mut said.since))
    }

    /// Counts that something is to be said, if that isn't too much.
    fn may_be_said(&self, now: i64) -> bool {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = &mut *all;
        if now - *since >= PAUSE_MS {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= MOST
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ruma::server_name;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn of_each_server_something_is_said_once_in_a_while() {
        let clock = Arc::new(ManualClock::new(1));
        let complaints = Complaints::new(clock.clone());
        let (one, other) = (server_name!("one.test"), server_name!("other.test"));
        assert_eq!(complaints.is_due(one), Some(0));
        assert_eq!(complaints.is_due(one), None);
        assert_eq!(complaints.is_due(one), None);
        assert_eq!(complaints.is_due(other), Some(0));
        clock.advance(Duration::from_millis(PAUSE_MS as u64));
        assert_eq!(complaints.is_due(one), Some(2));
    }

    #[test]
    fn of_any_number_of_servers_so_much_is_said_and_not_more() {
        let clock = Arc::new(ManualClock::new(1));
        let complaints = Complaints::new(clock.clone());
        let names = (0..3 * MOST).map(|number| format!("server{number}.test"));
        let names: Vec<OwnedServerName> = names.map(|name| name.try_into().unwrap()).collect();
        let said = || {
            let due = names
                .iter()
                .filter(|name| complaints.is_due(name).is_some());
            due.count() as u64
        };
        assert_eq!((said(), said()), (MOST, 0));
        clock.advance(Duration::from_millis(PAUSE_MS as u64));
        assert_eq!(said(), MOST);
    }
}
