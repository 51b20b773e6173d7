//! Saying once, and not with each event, that another server sends what can't be taken.

use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::sync::Cache;
use ruma::{OwnedServerName, RoomId, ServerName};

use crate::clock::Clock;

/// Servers that are remembered.
const REMEMBERED: usize = 1_000;
/// How long nothing more is said of a server.
const PAUSE_MS: i64 = 10 * 60 * 1_000;

/// What is said of other servers in the log.
#[derive(Debug)]
pub(crate) struct Complaints {
    clock: Arc<dyn Clock>,
    servers: Cache<OwnedServerName, Arc<Mutex<Said>>>,
}

/// When something was last said of a server, and how much was not said since.
#[derive(Debug, Default)]
struct Said {
    at: Option<i64>,
    since: u64,
}

impl Complaints {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            servers: Cache::new(REMEMBERED),
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

    /// How often nothing was said since the last time, if it is time to say something.
    fn is_due(&self, server: &ServerName) -> Option<u64> {
        let now = self.clock.now_ms();
        let fresh = || Ok::<_, std::convert::Infallible>(Arc::default());
        let Ok(said) = self.servers.get_or_insert_with(server, fresh);
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.at.is_some_and(|at| now - at < PAUSE_MS) {
            said.since += 1;
            return None;
        }
        said.at = Some(now);
        Some(std::mem::take(&mut said.since))
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
}
