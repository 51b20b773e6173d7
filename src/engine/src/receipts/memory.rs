//! The receipts of the rooms that are being synced, in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use parley_storage::Database;
use quick_cache::sync::Cache;
use ruma::{OwnedUserId, UserId};
use tokio::sync::OnceCell;

use super::{ReadUpTo, Receipt};
use crate::{Result, stream::observer::Observer};

/// Rooms whose receipts are kept. A receipt takes about 300 bytes, and a room has one or two for each member who reads.
const ROOMS: usize = 5_000;

/// The receipts of rooms.
#[derive(Debug)]
pub(crate) struct Memory {
    rooms: Cache<i64, Arc<RoomReceipts>>,
}

/// The receipts of one room.
#[derive(Debug, Default)]
pub(crate) struct RoomReceipts {
    receipts: Mutex<Inner>,
    loaded: OnceCell<()>,
}

#[derive(Debug, Default)]
struct Inner {
    by_position: BTreeMap<i64, Arc<Receipt>>,
    of_users: HashMap<OwnedUserId, Vec<Arc<Receipt>>>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self {
            rooms: Cache::new(ROOMS),
        }
    }

    /// The receipts of a room, read if they are not there.
    pub(super) async fn room(
        &self,
        database: &Database,
        room_nid: i64,
    ) -> Result<Arc<RoomReceipts>> {
        let made: Result<_, std::convert::Infallible> = self
            .rooms
            .get_or_insert_with(&room_nid, || Ok(Arc::default()));
        let Ok(room) = made;
        // From here on new receipts are noted, even while the older ones are read.
        let load = async || -> Result<()> {
            let rows = database.receipts_of(room_nid).await?;
            rows.into_iter().for_each(|row| room.note(&Arc::new(row)));
            Ok(())
        };
        room.loaded.get_or_try_init(load).await?;
        Ok(room)
    }
}

impl Memory {
    /// Reads the receipts of rooms that are not there, all at once.
    pub(super) async fn prepare(&self, database: &Database, room_nids: &[i64]) -> Result<()> {
        let mut missing = HashMap::new();
        for room_nid in room_nids {
            let made: Result<_, std::convert::Infallible> = self
                .rooms
                .get_or_insert_with(room_nid, || Ok(Arc::<RoomReceipts>::default()));
            let Ok(room) = made;
            if !room.loaded.initialized() {
                missing.insert(*room_nid, room);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        // From here on new receipts are noted, as when a single room is read.
        let rows = database
            .receipts_of_rooms(missing.keys().copied().collect())
            .await?;
        for row in rows {
            if let Some(room) = missing.get(&row.room_nid) {
                room.note(&Arc::new(row));
            }
        }
        for room in missing.values() {
            // Whoever read it meanwhile has read the same.
            let _ = room.loaded.set(());
        }
        Ok(())
    }
}

impl Observer for Memory {
    fn receipt(&self, receipt: &Arc<Receipt>) {
        if let Some(room) = self.rooms.get(&receipt.room_nid) {
            room.note(receipt);
        }
    }
}

impl RoomReceipts {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a receipt in, unless one of the same type and thread is as far.
    fn note(&self, receipt: &Arc<Receipt>) {
        let mut inner = self.lock();
        let of_user = inner.of_users.entry(receipt.user_id.clone()).or_default();
        let same = of_user.iter_mut().find(|known| {
            known.receipt_type == receipt.receipt_type && known.thread == receipt.thread
        });
        match same {
            Some(known) if known.event_position >= receipt.event_position => return,
            Some(known) => {
                let replaced = std::mem::replace(known, receipt.clone());
                inner.by_position.remove(&replaced.position);
            }
            None => of_user.push(receipt.clone()),
        }
        inner.by_position.insert(receipt.position, receipt.clone());
    }

    pub(super) fn last(
        &self,
        user_id: &UserId,
        receipt_type: &str,
        thread: &str,
    ) -> Option<Arc<Receipt>> {
        let inner = self.lock();
        let mut of_user = inner.of_users.get(user_id)?.iter();
        of_user
            .find(|known| known.receipt_type == receipt_type && known.thread == thread)
            .cloned()
    }

    /// How many receipts a user has, of all types and threads.
    pub(super) fn count(&self, user_id: &UserId) -> usize {
        self.lock().of_users.get(user_id).map_or(0, Vec::len)
    }

    pub(super) fn changed(&self, after: i64, to: i64, user_id: &UserId) -> Vec<Arc<Receipt>> {
        if after >= to {
            return Vec::new();
        }
        self.lock()
            .by_position
            .range(after + 1..=to)
            .map(|(_, receipt)| receipt)
            .filter(|receipt| receipt.receipt_type == "m.read" || receipt.user_id == user_id)
            .cloned()
            .collect()
    }

    pub(super) fn read_up_to(&self, user_id: &UserId) -> ReadUpTo {
        let mut read = ReadUpTo::default();
        let inner = self.lock();
        for receipt in inner.of_users.get(user_id).into_iter().flatten() {
            let position = match receipt.thread.as_str() {
                "" => &mut read.unthreaded,
                thread => read.threads.entry(thread.to_owned()).or_default(),
            };
            *position = receipt.event_position.max(*position);
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use ruma::{owned_event_id, owned_user_id, user_id};

    use super::*;

    fn receipt(user: &UserId, kind: &str, thread: &str, at: i64, position: i64) -> Arc<Receipt> {
        Arc::new(Receipt {
            room_nid: 1,
            user_id: user.to_owned(),
            receipt_type: kind.to_owned(),
            thread: thread.to_owned(),
            event_id: owned_event_id!("$e"),
            event_position: at,
            received_at: 0,
            position,
        })
    }

    fn positions(receipts: &[Arc<Receipt>]) -> Vec<i64> {
        receipts.iter().map(|receipt| receipt.position).collect()
    }

    #[test]
    fn the_newest_of_each_type_and_thread_is_kept_and_private_ones_are_for_oneself() {
        let (a, b) = (user_id!("@a:x"), user_id!("@b:x"));
        let room = RoomReceipts::default();
        room.note(&receipt(a, "m.read", "", 5, 10));
        room.note(&receipt(a, "m.read", "", 7, 11));
        room.note(&receipt(a, "m.read.private", "", 8, 12));
        room.note(&receipt(b, "m.read", "main", 3, 13));
        assert_eq!(positions(&room.changed(0, 99, a)), [11, 12, 13]);
        assert_eq!(positions(&room.changed(0, 99, b)), [11, 13]);
        assert_eq!(positions(&room.changed(11, 12, a)), [12]);
        assert_eq!(positions(&room.changed(13, 13, a)), [0; 0]);
    }

    #[test]
    fn a_receipt_that_goes_back_is_ignored_in_whichever_order_they_are_read() {
        let user = owned_user_id!("@a:x");
        let room = RoomReceipts::default();
        room.note(&receipt(&user, "m.read", "", 7, 11));
        room.note(&receipt(&user, "m.read", "", 6, 12));
        assert_eq!(positions(&room.changed(0, 99, &user)), [11]);
    }

    #[test]
    fn what_is_read_is_the_furthest_of_both_types() {
        let user = owned_user_id!("@a:x");
        let room = RoomReceipts::default();
        room.note(&receipt(&user, "m.read", "", 4, 10));
        room.note(&receipt(&user, "m.read.private", "", 6, 11));
        room.note(&receipt(&user, "m.read", "$t", 9, 12));
        room.note(&receipt(&user, "m.read", "main", 5, 13));
        let read = room.read_up_to(&user);
        assert_eq!(read.unthreaded, 6);
        assert_eq!(read.in_thread("$t"), 9);
        assert_eq!(read.in_thread("main"), 6);
    }
}
