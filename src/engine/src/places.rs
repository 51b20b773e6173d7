//! Places among what there may be only so many of.
//!
//! What there is counts together with what is being made at the moment: of requests that come together no more get through
//! than there are places. Each node counts what it makes itself, so several may together exceed a limit by what they make
//! at the same moment.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use parley_storage::StorageError;
use tokio::sync::{Mutex as AsyncMutex, watch};

use crate::Result;

/// What there may be only so many of, by the number of whom or what has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Counted {
    /// Rooms that a user is in.
    RoomsOf(i64),
    /// Aliases that a user has made.
    AliasesBy(i64),
    /// Aliases of a room.
    AliasesOf(i64),
}

/// The places that are taken by what is being made.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<HashMap<Counted, Weak<Taken>>>);

/// Those among one thing that is counted.
#[derive(Debug)]
struct Taken {
    /// Held by who counts.
    turn: AsyncMutex<()>,
    places: watch::Sender<i64>,
}

/// A place, to be kept until what it is for is made, or isn't.
#[derive(Debug)]
pub(crate) struct Place(Option<Arc<Taken>>);

impl Places {
    /// Takes a place among `most`; `None` if there are as many. 0 is as many as anybody likes. `count` says how many there
    /// are without what is being made. Where that decides, waits for it.
    ///
    /// # Errors
    /// If `count` fails.
    pub(crate) async fn take<F>(
        &self,
        counted: Counted,
        most: u32,
        count: impl Fn() -> F,
    ) -> Result<Option<Place>>
    where
        F: Future<Output = Result<i64, StorageError>>,
    {
        if most == 0 {
            return Ok(Some(Place(None)));
        }
        let most = i64::from(most);
        let taken = self.taken(counted);
        let turn = taken.turn.lock().await;
        let mut places = taken.places.subscribe();
        loop {
            // What is made between these two is in both, and what isn't made after all is in one: never in none.
            let being_made = *places.borrow_and_update();
            let made = count().await?;
            if made >= most {
                return Ok(None);
            }
            if made + being_made < most {
                taken.places.send_modify(|places| *places += 1);
                drop(turn);
                return Ok(Some(Place(Some(taken))));
            }
            // The sender is `taken`'s, so it's there.
            let _ = places.changed().await;
        }
    }

    fn taken(&self, counted: Counted) -> Arc<Taken> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, taken| taken.strong_count() > 0);
        if let Some(taken) = all.get(&counted).and_then(Weak::upgrade) {
            return taken;
        }
        let taken = Arc::new(Taken {
            turn: AsyncMutex::default(),
            places: watch::Sender::new(0),
        });
        all.insert(counted, Arc::downgrade(&taken));
        taken
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(taken) = &self.0 {
            taken.places.send_modify(|places| *places -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Ready, ready},
        sync::atomic::{AtomicI64, Ordering},
    };

    use futures::{FutureExt, future::join_all};

    use super::*;

    const ROOMS: Counted = Counted::RoomsOf(1);

    #[tokio::test]
    async fn of_many_at_once_as_many_get_a_place_as_there_are() {
        let (places, made) = (Places::default(), AtomicI64::new(2));
        let makes = (0..20).map(|_| async {
            let count = || async {
                let made = made.load(Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok(made)
            };
            let place = places.take(ROOMS, 7, count).await.unwrap();
            let Some(_place) = place else {
                return false;
            };
            tokio::task::yield_now().await;
            made.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            true
        });
        let made_now = join_all(makes).await;
        assert_eq!(made_now.into_iter().filter(|made| *made).count(), 5);
        assert_eq!(made.into_inner(), 7);
    }

    #[tokio::test]
    async fn who_comes_when_the_last_place_is_taken_waits_for_what_becomes_of_it() {
        let places = Places::default();
        let take = || places.take(ROOMS, 1, || ready(Ok(0)));
        let place = take().now_or_never().unwrap().unwrap();
        let mut waiting = Box::pin(take());
        assert!((&mut waiting).now_or_never().is_none());
        let other = places.take(Counted::RoomsOf(2), 1, || ready(Ok(0)));
        assert!(other.now_or_never().unwrap().unwrap().is_some());
        // It comes to nothing.
        drop(place);
        assert!(waiting.now_or_never().unwrap().unwrap().is_some());
    }

    #[tokio::test]
    async fn without_limit_nothing_is_counted() {
        let places = Places::default();
        let count = || -> Ready<Result<i64, StorageError>> { unreachable!("nobody counts") };
        assert!(places.take(ROOMS, 0, count).await.unwrap().is_some());
        assert!(places.0.lock().unwrap().is_empty());
    }
}
