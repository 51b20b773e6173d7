//! The push rules of users, in memory.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use parley_storage::Database;
use quick_cache::{Weighter, sync::Cache};
use ruma::{UserId, push::Ruleset};

use super::{TYPE, defaults::server_default, parse};
use crate::{Result, stream::observer::Observer};

/// What is kept: about so many bytes of rules.
const BYTES: u64 = 32 * 1024 * 1024;
/// What an entry takes beside its rules.
const OVERHEAD: u64 = 100;
/// About what a rule takes beside its texts.
const RULE: u64 = 400;

/// A user's rules.
#[derive(Clone, Debug)]
pub(crate) enum Rules {
    /// Those of the server: the user changed nothing.
    Default,
    /// The user's own.
    Own {
        rules: Arc<Ruleset>,
        /// How long they are as JSON, in bytes.
        length: usize,
    },
}

impl Rules {
    /// The rules themselves.
    pub(crate) fn of(&self, user_id: &UserId) -> Cow<'_, Ruleset> {
        match self {
            Self::Default => Cow::Owned(server_default(user_id)),
            Self::Own { rules, .. } => Cow::Borrowed(rules),
        }
    }

    /// The rules themselves, to keep.
    pub(crate) fn shared(&self, user_id: &UserId) -> Arc<Ruleset> {
        match self {
            Self::Default => Arc::new(server_default(user_id)),
            Self::Own { rules, .. } => rules.clone(),
        }
    }
}

#[derive(Clone, Debug)]
struct ByRules;

impl Weighter<i64, Rules> for ByRules {
    fn weight(&self, _: &i64, rules: &Rules) -> u64 {
        match rules {
            Rules::Default => OVERHEAD,
            Rules::Own { rules, length } => {
                OVERHEAD + rules.iter().count() as u64 * RULE + *length as u64
            }
        }
    }
}

/// The rules of users who were looked at lately.
#[derive(Debug)]
pub(crate) struct RuleCache {
    rules: Cache<i64, Rules, ByRules>,
    /// Counts the changes. What was read before the last of them isn't kept, as it may be what was changed.
    changes: Mutex<u64>,
}

impl RuleCache {
    pub(crate) fn new() -> Self {
        Self {
            rules: Cache::with_weighter(20_000, BYTES, ByRules),
            changes: Mutex::new(0),
        }
    }

    pub(super) async fn get(&self, database: &Database, user_nid: i64) -> Result<Rules> {
        if let Some(rules) = self.rules.get(&user_nid) {
            return Ok(rules);
        }
        let before = *self.changes();
        let rules = match database.account_data(user_nid, 0, TYPE).await? {
            None => Rules::Default,
            Some(content) => {
                let user_id = database.user_id(user_nid).await?;
                let rules = parse(&content, &user_id)?;
                Rules::Own {
                    rules: Arc::new(rules),
                    length: content.len(),
                }
            }
        };
        let changes = self.changes();
        if *changes == before {
            self.rules.insert(user_nid, rules.clone());
        }
        Ok(rules)
    }

    fn changes(&self) -> MutexGuard<'_, u64> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for RuleCache {
    fn account_data(&self, user_nid: i64, room_nid: i64, event_type: &str) {
        if room_nid == 0 && event_type == TYPE {
            *self.changes() += 1;
            self.rules.remove(&user_nid);
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{
        push::{NewPatternedPushRule, NewPushRule},
        user_id,
    };

    use super::*;

    #[test]
    fn long_rules_weigh_what_they_take() {
        let weight = |pattern: &str| {
            let mut rules = server_default(user_id!("@alice:x"));
            let rule = NewPatternedPushRule::new("one".into(), pattern.into(), Vec::new());
            let rule = NewPushRule::Content(rule);
            rules.insert(rule, None, None).unwrap();
            let length = serde_json::to_string(&rules).unwrap().len();
            let rules = Rules::Own {
                rules: Arc::new(rules),
                length,
            };
            ByRules.weight(&1, &rules)
        };
        assert_eq!(weight(&"a".repeat(10_000)) - weight("a"), 9_999);
        assert!(weight("a") > 10 * RULE);
    }
}
