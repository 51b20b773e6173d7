//! Sending member events only as they are needed.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#lazy-loading-room-members>

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ruma::OwnedUserId;

/// Devices for which it is remembered which members they have.
const DEVICES: usize = 10_000;
/// Members that are remembered for each of a device's rooms. Beyond, all are sent anew.
const MEMBERS: usize = 500;

/// Which member events a device was sent in a room, and at which position they stood.
type Sent = HashMap<OwnedUserId, i64>;

/// Remembers which members were sent to whom. What is forgotten is sent once more, which does no harm.
#[derive(Debug, Default)]
pub(super) struct LazyMembers {
    devices: Mutex<HashMap<i64, HashMap<i64, Sent>>>,
}

impl LazyMembers {
    fn lock(&self) -> MutexGuard<'_, HashMap<i64, HashMap<i64, Sent>>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device begins anew: it has no members.
    pub(super) fn forget_device(&self, device_nid: i64) {
        self.lock().remove(&device_nid);
    }

    /// Of the members that a device needs, those that it doesn't have as they are now; they count as sent.
    pub(super) fn missing(
        &self,
        device_nid: i64,
        room_nid: i64,
        needed: Vec<(OwnedUserId, i64)>,
    ) -> Vec<i64> {
        let mut devices = self.lock();
        if devices.len() >= DEVICES && !devices.contains_key(&device_nid) {
            devices.clear();
        }
        let sent = devices
            .entry(device_nid)
            .or_default()
            .entry(room_nid)
            .or_default();
        if sent.len() >= MEMBERS {
            sent.clear();
        }
        let mut missing = HashSet::new();
        for (user_id, position) in needed {
            if sent.insert(user_id, position) != Some(position) {
                missing.insert(position);
            }
        }
        missing.into_iter().collect()
    }
}
