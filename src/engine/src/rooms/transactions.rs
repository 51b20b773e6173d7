//! Transaction ids: a request that a client repeats must not happen twice.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#transaction-identifiers>

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use parley_storage::Database;
use ruma::{OwnedEventId, RoomId};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::Result;

/// Devices whose transactions are remembered.
const DEVICES: usize = 2_000;
/// Transactions that are remembered of each.
const PER_DEVICE: usize = 4_096;

/// What makes a transaction: sent by a device, of a type, to a room, with an id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a> {
    pub(super) device_nid: i64,
    pub(super) room_id: &'a RoomId,
    pub(super) room_nid: i64,
    pub(super) event_type: &'a str,
    pub(super) transaction_id: &'a str,
}

/// The transactions that were made lately. What isn't remembered is looked up in storage, unless it's known that the
/// device made none before those remembered.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    devices: Mutex<HashMap<i64, Device>>,
}

/// One transaction. Its lock is held while it is made, so that of two equal requests at once the second finds what the
/// first did.
type Slot = Arc<AsyncMutex<Option<OwnedEventId>>>;

/// One device's transactions.
#[derive(Debug, Default)]
struct Device {
    slots: HashMap<String, Slot>,
    /// `Some(true)`: all that the device ever made are in `slots`.
    complete: Option<bool>,
}

/// The right to make a transaction. Who repeats the same waits until it is dropped.
#[derive(Debug)]
pub(super) struct Making(OwnedMutexGuard<Option<OwnedEventId>>);

/// What has become of a transaction.
#[derive(Debug)]
pub(super) enum Begun {
    /// It was made before, and gave this event.
    Made(OwnedEventId),
    /// It is new.
    New(Making),
}

impl Transactions {
    /// Begins a transaction, or finds that it was made.
    pub(super) async fn begin(&self, database: &Database, key: Key<'_>) -> Result<Begun> {
        let (slot, complete) = self.slot(&key);
        let mut slot = slot.lock_owned().await;
        if let Some(event_id) = slot.as_ref() {
            return Ok(Begun::Made(event_id.clone()));
        }
        let complete = match complete {
            Some(complete) => complete,
            None => {
                let complete = !database.device_has_transactions(key.device_nid).await?;
                self.set_complete(key.device_nid, complete);
                complete
            }
        };
        if !complete {
            *slot = database
                .event_of_transaction(
                    key.device_nid,
                    key.transaction_id,
                    key.room_nid,
                    key.event_type,
                )
                .await?;
        }
        Ok(match slot.as_ref() {
            Some(event_id) => Begun::Made(event_id.clone()),
            None => Begun::New(Making(slot)),
        })
    }

    fn slot(&self, key: &Key<'_>) -> (Slot, Option<bool>) {
        let text = format!("{} {} {}", key.room_id, key.event_type, key.transaction_id);
        let mut devices = lock(&self.devices);
        if devices.len() >= DEVICES && !devices.contains_key(&key.device_nid) {
            drop_idle_device(&mut devices);
        }
        let device = devices.entry(key.device_nid).or_default();
        if device.slots.len() >= PER_DEVICE && !device.slots.contains_key(&text) {
            // Those under way stay, what is dropped is found in storage.
            device.slots.retain(|_, slot| Arc::strong_count(slot) > 1);
            device.complete = Some(false);
        }
        (
            device.slots.entry(text).or_default().clone(),
            device.complete,
        )
    }

    fn set_complete(&self, device_nid: i64, complete: bool) {
        if let Some(device) = lock(&self.devices).get_mut(&device_nid) {
            device.complete.get_or_insert(complete);
        }
    }
}

fn lock(devices: &Mutex<HashMap<i64, Device>>) -> MutexGuard<'_, HashMap<i64, Device>> {
    devices.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets a device that makes nothing just now; what it made is found in storage.
fn drop_idle_device(devices: &mut HashMap<i64, Device>) {
    let idle = |device: &Device| {
        device
            .slots
            .values()
            .all(|slot| Arc::strong_count(slot) == 1)
    };
    let found = devices
        .iter()
        .find(|(_, device)| idle(device))
        .map(|(nid, _)| *nid);
    if let Some(nid) = found {
        devices.remove(&nid);
    }
}

impl Making {
    /// Notes what the transaction gave.
    pub(super) fn made(mut self, event_id: &OwnedEventId) {
        *self.0 = Some(event_id.clone());
    }
}
