//! Places for transactions that are under way: servers that don't answer take none from those that do.

use std::{pin::pin, time::Duration};

use quick_cache::sync::Cache;
use ruma::{OwnedServerName, ServerName};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Transactions that are under way at once to servers that took the last one quickly, and to others: those that are slow,
/// fail, or were not spoken with yet.
const QUICK: usize = 100;
const OTHERS: usize = 50;
/// What is quick.
const SOON: Duration = Duration::from_secs(5);
/// Servers that are known to be quick.
const REMEMBERED: usize = 20_000;

/// The places.
#[derive(Debug)]
pub(super) struct Slots {
    quick: Semaphore,
    others: Semaphore,
    /// The servers that took the last transaction quickly.
    known: Cache<OwnedServerName, ()>,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            quick: Semaphore::new(QUICK),
            others: Semaphore::new(OTHERS),
            known: Cache::new(REMEMBERED),
        }
    }
}

/// A place for a transaction.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    server: &'a ServerName,
    // Of a semaphore that is never closed.
    permit: Option<SemaphorePermit<'a>>,
}

impl Slots {
    /// Waits for a place for a transaction to a server.
    pub(super) async fn take<'a>(&'a self, server: &'a ServerName) -> Slot<'a> {
        let places = match self.known.get(server) {
            Some(()) => &self.quick,
            None => &self.others,
        };
        Slot {
            slots: self,
            server,
            permit: places.acquire().await.ok(),
        }
    }
}

impl Slot<'_> {
    /// Waits for the end of a transaction. One that takes long gives its place to the quick ones, as soon as there is another.
    pub(super) async fn hold<T, E>(
        self,
        transaction: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let Self {
            slots,
            server,
            permit,
        } = self;
        let mut transaction = pin!(transaction);
        if let Ok(answer) = tokio::time::timeout(SOON, &mut transaction).await {
            match answer {
                Ok(_) => slots.known.insert(server.to_owned(), ()),
                Err(_) => drop(slots.known.remove(server)),
            }
            return answer;
        }
        if slots.known.remove(server).is_none() {
            return transaction.await;
        }
        tokio::select! {
            answer = &mut transaction => answer,
            other = slots.others.acquire() => {
                drop(permit);
                let answer = transaction.await;
                drop(other);
                answer
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::{FutureExt, future::join_all};
    use ruma::server_name;

    use super::*;

    fn dead(count: usize) -> Vec<OwnedServerName> {
        let names = (0..count).map(|count| format!("dead{count}.test").try_into().unwrap());
        names.collect()
    }

    #[tokio::test]
    async fn servers_that_never_answer_keep_none_waiting_that_does() {
        let slots = Slots::default();
        let healthy = server_name!("healthy.test");
        let send = async |server| {
            let slot = slots.take(server).await;
            slot.hold(ready(Ok::<_, ()>(()))).await
        };
        send(healthy).await.unwrap();
        let dead = dead(200);
        let never = async |server| {
            let slot = slots.take(server).await;
            slot.hold(pending::<Result<(), ()>>()).await
        };
        let mut all = pin!(join_all(dead.iter().map(|server| never(server))));
        assert!((&mut all).now_or_never().is_none());
        let new = server_name!("new.test");
        assert!(send(new).now_or_never().is_none());
        assert!(send(healthy).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_server_that_fails_is_no_longer_among_the_quick() {
        let slots = Slots::default();
        let server = server_name!("one.test");
        for answer in [Ok(()), Err(())] {
            let slot = slots.take(server).await;
            assert_eq!(slot.hold(ready(answer)).await, answer);
            assert_eq!(slots.known.get(server).is_some(), answer.is_ok());
        }
    }
}
