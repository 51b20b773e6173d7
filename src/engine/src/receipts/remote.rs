//! Receipts of users of other servers.

use parley_storage::commit::{Assigned, ReceiptWrite, Write};
use ruma::{EventId, RoomId, UserId};

use super::Receipts;
use crate::Result;

/// A receipt that another server tells.
#[derive(Clone, Copy, Debug)]
pub struct RemoteReceipt<'a> {
    /// In which room.
    pub room_id: &'a RoomId,
    /// Whose.
    pub user_id: &'a UserId,
    /// Up to which event.
    pub event_id: &'a EventId,
    /// In which thread; `None` is all of them.
    pub thread: Option<&'a str>,
    /// When; milliseconds since the epoch.
    pub received_at: i64,
}

impl Receipts {
    /// Takes a public receipt of a user of another server. One that can't be is passed over: of who isn't joined, up to an
    /// event that isn't here, or not ahead of the last one.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn take(&self, receipt: RemoteReceipt<'_>) -> Result<()> {
        const PUBLIC: &str = "m.read";
        let Some(room) = self.registry.get(receipt.room_id).await? else {
            return Ok(());
        };
        let state = self.registry.load(&room).await?;
        let (Some(user_nid), true) = (
            self.database.user_nid(receipt.user_id).await?,
            state.is_joined(receipt.user_id),
        ) else {
            return Ok(());
        };
        let place = self.database.event_place(receipt.event_id).await?;
        let Some((_, event_position)) = place.filter(|(room_nid, _)| *room_nid == room.nid())
        else {
            return Ok(());
        };
        let thread = receipt.thread.unwrap_or_default();
        let known = self.memory.room(&self.database, room.nid()).await?;
        let last = known.last(receipt.user_id, PUBLIC, thread);
        if last.is_some_and(|last| last.event_position >= event_position) {
            return Ok(());
        }
        let write = ReceiptWrite {
            room_nid: room.nid(),
            user_nid,
            user_id: receipt.user_id.to_owned(),
            receipt_type: PUBLIC.to_owned(),
            thread: thread.to_owned(),
            event_id: receipt.event_id.to_owned(),
            event_position,
            received_at: receipt.received_at.min(self.clock.now_ms()),
            position: Assigned::default(),
        };
        self.commit(Write {
            receipts: vec![write],
            ..Write::default()
        })
        .await
    }
}
