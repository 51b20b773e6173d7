//! How it goes with other servers, for administrators.

use std::collections::BTreeMap;

use parley_storage::StorageError;
use ruma::ServerName;
use serde::{Deserialize, Serialize};

use crate::Federation;

/// How it goes with a server. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationStatus {
    /// Its name.
    pub server_name: String,
    /// When it was last reached; to the hour, where it was before this node started.
    pub last_success_at: Option<i64>,
    /// Since when it isn't reached.
    pub failing_since: Option<i64>,
    /// How often in a row it wasn't.
    pub failures: i64,
    /// When it is tried again.
    pub retry_at: Option<i64>,
    /// Why it wasn't reached.
    pub last_error: Option<String>,
    /// Rooms that it will be told the newest events of.
    pub rooms_behind: i64,
    /// Events and other things that wait for it in memory.
    pub waiting: usize,
}

impl Federation {
    /// How it goes with all servers that were spoken with for more than their keys, by name. They are forgotten a month after
    /// the last time.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn destinations_status(&self) -> Result<Vec<DestinationStatus>, StorageError> {
        let mut all = BTreeMap::new();
        for (name, row, rooms_behind) in self.database().destinations().await? {
            let Ok(server) = <&ServerName>::try_from(name.as_str()) else {
                continue;
            };
            // What is in memory is newer.
            let entry = self.destinations().get(server).await;
            let now = entry.health().clone();
            let status = DestinationStatus {
                server_name: name.clone(),
                last_success_at: now.last_success_at.or(row.last_success_at),
                failing_since: now.failing_since,
                failures: now.failures,
                retry_at: now.retry_at,
                last_error: now.last_error,
                rooms_behind,
                waiting: self.sender().map_or(0, |sender| sender.waiting(server)),
            };
            all.insert(name, status);
        }
        Ok(all.into_values().collect())
    }

    /// Tries a server again at once. Whether it was to be left alone.
    pub async fn retry(&self, server: &ServerName) -> bool {
        self.destinations().retry(server).await
    }
}
