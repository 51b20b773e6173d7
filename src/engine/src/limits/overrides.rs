//! Users who may do more than others, or less.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use parley_storage::{Database, rate_limits};

use super::{Action, LimitKey, Limiter};
use crate::{Result, clock::Clock, settings::RateLimit};

/// How often a user may do something, whatever it is, in the place of the usual limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserLimit {
    /// In the long run; 0: as often as they like.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

/// The limits of these users, all in memory.
#[derive(Debug, Default)]
pub(super) struct Overrides(RwLock<HashMap<i64, Arc<Override>>>);

#[derive(Debug)]
struct Override {
    limit: UserLimit,
    /// Counts each kind of action for itself; `None` where nothing is limited.
    limiter: Option<Limiter>,
}

impl Overrides {
    /// Counts `count` of an action of a user who has a limit of their own; `None` if they have none.
    pub(super) fn check(
        &self,
        action: Action,
        user_nid: i64,
        count: NonZeroU32,
    ) -> Option<Result<(), Duration>> {
        let own = {
            let users = self.0.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(users.get(&user_nid)?)
        };
        let Some(limiter) = &own.limiter else {
            return Some(Ok(()));
        };
        Some(limiter.check(&LimitKey::User(action as i64), count))
    }

    pub(super) fn get(&self, user_nid: i64) -> Option<UserLimit> {
        let users = self.0.read().unwrap_or_else(PoisonError::into_inner);
        users.get(&user_nid).map(|own| own.limit)
    }

    /// Sets a user's limit. One that is as it was keeps what was counted.
    pub(super) fn set(&self, user_nid: i64, limit: Option<UserLimit>, clock: &Arc<dyn Clock>) {
        if self.get(user_nid) == limit {
            return;
        }
        let mut users = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match limit {
            Some(limit) => users.insert(user_nid, Arc::new(Override::new(limit, clock))),
            None => users.remove(&user_nid),
        };
    }

    /// Reads all of them.
    pub(super) async fn load(&self, database: &Database, clock: &Arc<dyn Clock>) -> Result<()> {
        let stored: HashMap<i64, UserLimit> = rate_limits::list(database)
            .await?
            .into_iter()
            .map(|row| {
                let number = |number| u32::try_from(number).unwrap_or(u32::MAX);
                let limit = UserLimit {
                    per_second: number(row.per_second),
                    burst: number(row.burst),
                };
                (row.user_nid, limit)
            })
            .collect();
        let known: Vec<i64> = {
            let users = self.0.read().unwrap_or_else(PoisonError::into_inner);
            users.keys().copied().collect()
        };
        for user_nid in known.iter().chain(stored.keys()) {
            self.set(*user_nid, stored.get(user_nid).copied(), clock);
        }
        Ok(())
    }
}

impl Override {
    fn new(limit: UserLimit, clock: &Arc<dyn Clock>) -> Self {
        /// More than there are kinds of actions.
        const ACTIONS: usize = 50;
        let limiter = (limit.per_second > 0).then(|| {
            let rate = RateLimit::new(f64::from(limit.per_second), limit.burst);
            Limiter::new(rate, clock, ACTIONS)
        });
        Self { limit, limiter }
    }
}
