//! Filters that clients store, to name them by a number later: <https://spec.matrix.org/v1.19/client-server-api/#filtering>.

use std::{convert::Infallible, sync::Arc};

use parley_storage::{Database, StorageError, filters};
use quick_cache::sync::Cache;
use ruma::api::client::filter::FilterDefinition;
use serde_json::Value;

use crate::{EngineError, Result};

/// Of a filter, in bytes of JSON.
const MAX_SIZE: usize = 64 * 1024;
/// Filters kept in memory, parsed.
const CACHED: usize = 2_000;
/// Filters that are one for all who have the same, and their length in bytes of JSON at most.
const SHARED: usize = 500;
const MAX_SHARED: usize = 4 * 1024;

/// The stored filters of all users.
#[derive(Clone, Debug)]
pub struct Filters {
    database: Database,
    /// By user and number. A filter never changes, so it can't be out of date.
    parsed: Arc<Cache<(i64, i64), Arc<FilterDefinition>>>,
    shared: Arc<SharedFilters>,
    /// How many a user may have; 0 is as many as they like. When there is one more, the oldest goes: clients make a new one
    /// when theirs is gone.
    most: u32,
}

impl Filters {
    pub(crate) fn new(database: &Database, most: u32) -> Self {
        Self {
            database: database.clone(),
            parsed: Arc::new(Cache::new(CACHED)),
            shared: Arc::default(),
            most,
        }
    }

    /// Stores a filter, of which is known that it parses, as the client sent it. One of the same content is stored once.
    ///
    /// # Errors
    /// `M_TOO_LARGE`.
    pub async fn create(&self, user_nid: i64, filter: &Value) -> Result<String> {
        let content = filter.to_string();
        if content.len() > MAX_SIZE {
            return Err(EngineError::too_large("the filter is too large"));
        }
        let mut transaction = self.database.write().await?;
        if let Some(known) = filters::find_content(&mut transaction, user_nid, &content).await? {
            return Ok(known.to_string());
        }
        for _ in 0..10 {
            let made = filters::insert(&mut transaction, user_nid, &content).await?;
            if let Some(id) = made {
                if self.most > 0 {
                    let oldest = id - i64::from(self.most);
                    filters::delete_up_to(&mut transaction, user_nid, oldest).await?;
                }
                transaction.commit().await?;
                return Ok(id.to_string());
            }
        }
        Err(EngineError::Internal(
            "no number for a filter is free".to_owned(),
        ))
    }

    /// A stored filter as its client sent it, JSON.
    ///
    /// # Errors
    /// `M_NOT_FOUND`.
    pub async fn stored(&self, user_nid: i64, filter_id: &str) -> Result<String> {
        let id = parse_id(filter_id)?;
        let found = filters::find(&self.database, user_nid, id).await?;
        found.ok_or_else(not_found)
    }

    /// A stored filter, to be applied.
    ///
    /// # Errors
    /// `M_NOT_FOUND`.
    pub async fn get(&self, user_nid: i64, filter_id: &str) -> Result<Arc<FilterDefinition>> {
        let key = (user_nid, parse_id(filter_id)?);
        if let Some(filter) = self.parsed.get(&key) {
            return Ok(filter);
        }
        let content = self.stored(user_nid, filter_id).await?;
        let filter: FilterDefinition = serde_json::from_str(&content)
            .map_err(|error| StorageError::Corrupt(format!("a filter: {error}")))?;
        let filter = self.shared.share(filter);
        self.parsed.insert(key, Arc::clone(&filter));
        Ok(filter)
    }

    /// A filter that came with a request, the same for all who have one that says the same.
    pub fn share(&self, filter: FilterDefinition) -> Arc<FilterDefinition> {
        self.shared.share(filter)
    }
}

/// Filters by their content. Each takes more than a kilobyte, there is one in the hands of each waiting client, and all
/// clients of a kind have the same.
#[derive(Debug)]
struct SharedFilters(Cache<String, Arc<FilterDefinition>>);

impl Default for SharedFilters {
    fn default() -> Self {
        Self(Cache::new(SHARED))
    }
}

impl SharedFilters {
    fn share(&self, filter: FilterDefinition) -> Arc<FilterDefinition> {
        match serde_json::to_string(&filter) {
            Ok(content) if content.len() <= MAX_SHARED => {
                let fresh = || Ok::<_, Infallible>(Arc::new(filter));
                let Ok(shared) = self.0.get_or_insert_with(&content, fresh);
                shared
            }
            _ => Arc::new(filter),
        }
    }
}

fn parse_id(filter_id: &str) -> Result<i64> {
    filter_id.parse().map_err(|_| not_found())
}

fn not_found() -> EngineError {
    EngineError::not_found("you have no such filter")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filter(limit: u32) -> FilterDefinition {
        let filter = json!({ "room": { "timeline": { "limit": limit } } });
        serde_json::from_value(filter).unwrap()
    }

    #[test]
    fn filters_that_say_the_same_are_one() {
        let shared = SharedFilters::default();
        let one = shared.share(filter(20));
        assert!(Arc::ptr_eq(&one, &shared.share(filter(20))));
        let other = shared.share(filter(21));
        assert!(!Arc::ptr_eq(&one, &other));
        assert_eq!(other.room.timeline.limit, Some(21_u32.into()));
    }

    #[test]
    fn large_filters_are_not_kept() {
        let shared = SharedFilters::default();
        let mut large = filter(20);
        large.event_fields = Some(vec!["x".repeat(MAX_SHARED)]);
        let one = shared.share(large.clone());
        assert!(!Arc::ptr_eq(&one, &shared.share(large)));
        assert_eq!(shared.0.len(), 0);
    }
}
