//! Transaction ids: a request that a client repeats must not happen twice.
//!
//! The newest transactions of each device that is active are kept in memory: those that a client may repeat. An older one
//! that is repeated is found by the database when the event is to be committed: see [`Transactions::repeated`].
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#transaction-identifiers>

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use parley_storage::Database;
use quick_cache::sync::Cache;
use ruma::{EventId, OwnedEventId};
use tokio::sync::{Mutex as AsyncMutex, OnceCell, OwnedMutexGuard};

use crate::{EngineError, Result};

/// Devices whose transactions are in memory.
const DEVICES: usize = 5_000;
/// Transactions of a device that are read when it becomes active.
const READ: i64 = 16;
/// Transactions of a device that are kept at least, the newest; at most twice as many are. Each takes about 250 bytes.
const KEPT: usize = 16;

/// What makes a transaction: sent by a device, of a type, to a room, with an id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a> {
    pub(super) device_nid: i64,
    pub(super) room_nid: i64,
    pub(super) event_type: &'a str,
    pub(super) transaction_id: &'a str,
    /// The number of the delayed event that it sends. Doesn't make it another transaction.
    pub(super) delayed: Option<i64>,
}

impl Key<'_> {
    fn text(&self) -> Box<str> {
        // Neither the number nor a null byte can be mistaken for a part of the others.
        format!(
            "{}\0{}\0{}",
            self.room_nid, self.event_type, self.transaction_id
        )
        .into_boxed_str()
    }
}

/// Stands between the event that is redacted and the transaction id of the request: `/redact` has both in its path, and only
/// with both the same it's the same request.
const REDACTS: char = '\u{1f}';

/// What makes a redaction another transaction than that of another event.
pub(super) fn of_redaction(target: &EventId, transaction_id: &str) -> String {
    format!("{target}{REDACTS}{transaction_id}")
}

/// The transaction id as the client gave it.
pub(super) fn as_given<'a>(event_type: &str, transaction_id: &'a str) -> &'a str {
    match transaction_id.split_once(REDACTS) {
        Some((target, given)) if event_type == "m.room.redaction" && target.starts_with('$') => {
            given
        }
        _ => transaction_id,
    }
}

/// The transactions that were made lately.
#[derive(Debug)]
pub(super) struct Transactions {
    devices: Cache<i64, Arc<Device>>,
}

/// One transaction. Its lock is held while it is made, so that of two equal requests at once the second finds what the
/// first did.
type Slot = Arc<AsyncMutex<Option<OwnedEventId>>>;

/// One device's transactions.
#[derive(Debug, Default)]
struct Device {
    read: OnceCell<()>,
    slots: Mutex<Slots>,
}

/// Two generations: when the newer is full, the older is dropped.
#[derive(Debug, Default)]
struct Slots {
    newer: HashMap<Box<str>, Slot>,
    older: HashMap<Box<str>, Slot>,
}

/// The right to make a transaction. Who repeats the same waits until it is dropped.
#[derive(Debug)]
pub(super) struct Making(OwnedMutexGuard<Option<OwnedEventId>>);

/// What has become of a transaction.
#[derive(Debug)]
pub(super) enum Begun {
    /// It was made before, and gave this event.
    Made(OwnedEventId),
    /// It is new, as far as is known.
    New(Making),
}

impl Default for Transactions {
    fn default() -> Self {
        Self {
            devices: Cache::new(DEVICES),
        }
    }
}

impl Transactions {
    /// Begins a transaction, or finds that it was made.
    pub(super) async fn begin(&self, database: &Database, key: Key<'_>) -> Result<Begun> {
        let made: Result<_, std::convert::Infallible> = self
            .devices
            .get_or_insert_with(&key.device_nid, || Ok(Arc::default()));
        let Ok(device) = made;
        device
            .read
            .get_or_try_init(|| Box::pin(device.read(database, key.device_nid)))
            .await?;
        let slot = device.slot(key.text()).lock_owned().await;
        Ok(match slot.as_ref() {
            Some(event_id) => Begun::Made(event_id.clone()),
            None => Begun::New(Making(slot)),
        })
    }

    /// The event that a transaction gave which is older than what is in memory. To be asked when the commit of a new one
    /// was refused as a duplicate.
    pub(super) async fn repeated(
        &self,
        database: &Database,
        key: Key<'_>,
        error: EngineError,
    ) -> Result<OwnedEventId> {
        if !matches!(error, EngineError::Duplicate) {
            return Err(error);
        }
        database
            .event_of_transaction(
                key.device_nid,
                key.transaction_id,
                key.room_nid,
                key.event_type,
            )
            .await?
            .ok_or(error)
    }
}

impl Device {
    async fn read(&self, database: &Database, device_nid: i64) -> Result<()> {
        let rows = database.newest_transactions(device_nid, READ).await?;
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let key = Key {
                device_nid,
                room_nid: row.room_nid,
                event_type: &row.event_type,
                transaction_id: &row.transaction_id,
                delayed: None,
            };
            let slot = Arc::new(AsyncMutex::new(Some(row.event_id)));
            slots.newer.insert(key.text(), slot);
        }
        Ok(())
    }

    fn slot(&self, key: Box<str>) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.newer.get(&key).or_else(|| slots.older.get(&key)) {
            return slot.clone();
        }
        if slots.newer.len() >= KEPT {
            slots.older = std::mem::take(&mut slots.newer);
        }
        slots.newer.entry(key).or_default().clone()
    }
}

impl Making {
    /// Notes what the transaction gave.
    pub(super) fn made(mut self, event_id: &OwnedEventId) {
        *self.0 = Some(event_id.clone());
    }
}
