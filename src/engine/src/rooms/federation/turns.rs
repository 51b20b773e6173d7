//! What is costly to tell, like the whole state of a room: a few at once for each server that asks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use ruma::{OwnedServerName, ServerName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{EngineError, Result};

/// Answers that one server gets at once.
const AT_ONCE: usize = 4;
/// How long a server waits for its other questions to be answered.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The servers that are being answered.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<OwnedServerName, Weak<Semaphore>>>);

impl Turns {
    /// Waits until a server may be told more. It holds a place as long as what is returned is kept.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` if the answers before it take too long.
    pub(super) async fn wait(&self, server: &ServerName) -> Result<OwnedSemaphorePermit> {
        let too_many = || EngineError::limit_exceeded(MAX_WAIT);
        let place = self.places_of(server).acquire_owned();
        let place = tokio::time::timeout(MAX_WAIT, place).await;
        // The semaphore is never closed.
        place.map_err(|_| too_many())?.map_err(|_| too_many())
    }

    fn places_of(&self, server: &ServerName) -> Arc<Semaphore> {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|_, places| places.strong_count() > 0);
        if let Some(places) = servers.get(server).and_then(Weak::upgrade) {
            return places;
        }
        let places = Arc::new(Semaphore::new(AT_ONCE));
        servers.insert(server.to_owned(), Arc::downgrade(&places));
        places
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use ruma::server_name;

    use super::*;

    #[tokio::test]
    async fn a_server_that_asks_for_much_waits_and_no_other_does() {
        let turns = Turns::default();
        let (greedy, other) = (server_name!("greedy.test"), server_name!("other.test"));
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(turns.wait(greedy).await.unwrap());
        }
        assert!(turns.wait(greedy).now_or_never().is_none());
        drop(turns.wait(other).await.unwrap());
        held.pop();
        assert!(turns.wait(greedy).now_or_never().is_some());
        held.clear();
        drop(turns.wait(other).await.unwrap());
        drop(turns.places_of(other));
        assert_eq!(
            turns.0.lock().unwrap().len(),
            1,
            "who is answered is forgotten"
        );
    }
}
