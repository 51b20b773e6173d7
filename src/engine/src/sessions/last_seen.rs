//! When devices were seen: noted in memory, written together every few seconds, off the path of requests.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use parley_storage::{
    Database, Result,
    devices::{self, Sighting},
};

use crate::background::Background;

/// A device is noted once in that time at most, in milliseconds.
pub(super) const INTERVAL: i64 = 60_000;
/// How often what was noted is written.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// Devices that were seen and not written yet.
#[derive(Clone, Debug)]
pub(super) struct LastSeen {
    noted: Arc<Mutex<HashMap<i64, Sighting>>>,
}

impl LastSeen {
    /// Begins to write what is noted, until the engine stops; then what is left is written.
    pub(super) fn start(database: &Database, background: &Background) -> Self {
        let last_seen = Self {
            noted: Arc::default(),
        };
        let writer = last_seen.clone();
        let database = database.clone();
        background.every(WRITE_EVERY, move || {
            let writer = writer.clone();
            let database = database.clone();
            async move {
                if let Err(error) = writer.write(&database).await {
                    // Nothing depends on it, and the next request of the device notes it again.
                    tracing::warn!(%error, "could not write when devices were last seen");
                }
            }
        });
        last_seen
    }

    pub(super) fn note(&self, device_nid: i64, at: i64, address: Option<IpAddr>) {
        let sighting = Sighting {
            device_nid,
            at,
            address: address.map(|address| address.to_canonical().to_string()),
        };
        self.noted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(device_nid, sighting);
    }

    async fn write(&self, database: &Database) -> Result<()> {
        let noted = {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *noted)
        };
        if noted.is_empty() {
            return Ok(());
        }
        // In the order of the primary key, so that nodes that write the same devices don't wait for each other in a circle.
        let mut sightings: Vec<Sighting> = noted.into_values().collect();
        sightings.sort_unstable_by_key(|sighting| sighting.device_nid);
        let mut transaction = database.write().await?;
        devices::record_sightings(&mut transaction, sightings).await?;
        transaction.commit().await
    }
}
