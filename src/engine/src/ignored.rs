//! Whom users ignore, and of whom they want invitations, in memory.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#ignoring-users>,
//! <https://spec.matrix.org/v1.19/client-server-api/#invite-permission>

mod invitations;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use parley_storage::Database;
use quick_cache::{Weighter, sync::Cache};
use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, de::IgnoredAny};

pub(crate) use self::invitations::Reception;
use self::invitations::Rules;

use crate::{Result, rooms::timeline::TimelineEvent, stream::observer::Observer};

/// The type of account data that holds the list.
pub(crate) const TYPE: &str = "m.ignored_user_list";
/// What is kept: about so many bytes.
const BYTES: u64 = 8 * 1024 * 1024;
/// What an entry takes beside the users in it.
const OVERHEAD: u64 = 100;
/// About what a user takes.
const USER: u64 = 80;

/// The users whom somebody ignores.
#[derive(Clone, Debug, Default)]
pub struct IgnoredUsers {
    users: Option<Arc<HashSet<OwnedUserId>>>,
    /// Of whom invitations are wanted, if not of everyone.
    invitations: Option<Arc<Rules>>,
}

impl IgnoredUsers {
    pub(crate) fn parse(content: &str) -> Self {
        #[derive(Deserialize)]
        struct Content {
            ignored_users: BTreeMap<String, IgnoredAny>,
        }
        // Clients write what they like; what isn't a list ignores nobody, and what isn't a user id is no user.
        let users: HashSet<_> = serde_json::from_str::<Content>(content)
            .map(|content| content.ignored_users)
            .unwrap_or_default()
            .into_keys()
            .filter_map(|user_id| OwnedUserId::try_from(user_id).ok())
            .collect();
        Self {
            users: (!users.is_empty()).then(|| Arc::new(users)),
            invitations: None,
        }
    }

    /// What becomes of an invitation by this user. One by somebody who is ignored isn't told.
    pub(crate) fn reception(&self, sender: &UserId) -> Reception {
        let rules = self.invitations.as_ref();
        match rules.map_or(Reception::Allow, |rules| rules.reception(sender)) {
            Reception::Allow if self.contains(sender) => Reception::Ignore,
            reception => reception,
        }
    }

    /// Whether this user is one of them.
    pub fn contains(&self, user_id: &UserId) -> bool {
        self.users
            .as_ref()
            .is_some_and(|users| users.contains(user_id))
    }

    /// Whether an event is kept from who ignores them: all but state events, without which a room can't be understood.
    pub fn hide(&self, event: &TimelineEvent) -> bool {
        !event.is_state() && self.contains(&event.sender)
    }

    fn count(&self) -> u64 {
        self.users.as_ref().map_or(0, |users| users.len() as u64)
    }
}

#[derive(Clone, Debug)]
struct ByUsers;

impl Weighter<i64, IgnoredUsers> for ByUsers {
    fn weight(&self, _: &i64, users: &IgnoredUsers) -> u64 {
        let rules = users.invitations.as_ref().map_or(0, |rules| rules.bytes());
        OVERHEAD + users.count() * USER + rules
    }
}

/// The lists of users who were looked at lately.
#[derive(Debug)]
pub struct Ignored {
    database: Database,
    lists: Cache<i64, IgnoredUsers, ByUsers>,
    /// Counts the changes. What was read before the last of them isn't kept, as it may be what was changed.
    changes: Mutex<u64>,
}

impl Ignored {
    pub(crate) fn new(database: Database) -> Self {
        Self {
            database,
            lists: Cache::with_weighter(50_000, BYTES, ByUsers),
            changes: Mutex::new(0),
        }
    }

    /// Whom a user ignores.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn by(&self, user_nid: i64) -> Result<IgnoredUsers> {
        if let Some(users) = self.lists.get(&user_nid) {
            return Ok(users);
        }
        let before = *self.changes();
        let content = self.database.account_data(user_nid, 0, TYPE).await?;
        let users = content
            .as_deref()
            .map(IgnoredUsers::parse)
            .unwrap_or_default();
        let all = self.database.account_data(user_nid, 0, invitations::ALL);
        let all = all.await?;
        let by_sender = self
            .database
            .account_data(user_nid, 0, invitations::BY_SENDER);
        let by_sender = by_sender.await?;
        let users = IgnoredUsers {
            invitations: Rules::parse(all.as_deref(), by_sender.as_deref()).map(Arc::new),
            ..users
        };
        let changes = self.changes();
        if *changes == before {
            self.lists.insert(user_nid, users.clone());
        }
        Ok(users)
    }

    fn changes(&self) -> MutexGuard<'_, u64> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Ignored {
    fn account_data(&self, user_nid: i64, room_nid: i64, event_type: &str) {
        if room_nid == 0 && matches!(event_type, TYPE | invitations::ALL | invitations::BY_SENDER) {
            *self.changes() += 1;
            self.lists.remove(&user_nid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_none_ignores_nobody() {
        for content in [
            "{}",
            "{\"ignored_users\":[]}",
            "{\"ignored_users\":{\"bob\":{}}}",
        ] {
            assert_eq!(IgnoredUsers::parse(content).count(), 0, "{content}");
        }
    }
}
