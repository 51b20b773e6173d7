//! States and gaps of which something in other servers' answers can't be taken yet: mostly events of a server whose keys aren't
//! known while it isn't reached.

use quick_cache::sync::Cache;
use ruma::{EventId, OwnedEventId};

/// States and gaps that are remembered.
const REMEMBERED: usize = 1_000;
/// How long it's waited for the rest, in milliseconds. What is built on it is tried again several times meanwhile.
const PATIENCE_MS: i64 = 10 * 60 * 1_000;

/// Since when which states and gaps have lacked something, by the event that they are before.
#[derive(Debug)]
pub(crate) struct Lacking(Cache<OwnedEventId, i64>);

impl Default for Lacking {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl Lacking {
    /// Notes that what is before an event lacks something. Whether it's to be taken as it is: with a part of it, later events
    /// are judged otherwise than by who has all, for ever; but where a server is gone for good, the room has to go on.
    pub(super) fn is_out_of_patience(&self, before: &EventId, now: i64) -> bool {
        let fresh = || Ok::<_, std::convert::Infallible>(now);
        let Ok(since) = self.0.get_or_insert_with(before, fresh);
        now - since >= PATIENCE_MS
    }
}

#[cfg(test)]
mod tests {
    use ruma::event_id;

    use super::*;

    #[test]
    fn a_state_that_lacks_something_is_waited_for_and_not_for_ever() {
        let lacking = Lacking::default();
        let (one, other) = (event_id!("$one"), event_id!("$other"));
        assert!(!lacking.is_out_of_patience(one, 5_000));
        assert!(!lacking.is_out_of_patience(one, 5_000 + PATIENCE_MS - 1));
        assert!(lacking.is_out_of_patience(one, 5_000 + PATIENCE_MS));
        assert!(!lacking.is_out_of_patience(other, 5_000 + PATIENCE_MS));
    }
}
