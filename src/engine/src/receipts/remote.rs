//! Receipts of users of other servers.

use parley_storage::commit::{Assigned, ReceiptWrite, Write};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, UserId};

use super::Receipts;
use crate::{Result, background::Background};

/// A receipt that another server tells.
#[derive(Clone, Debug)]
pub struct RemoteReceipt {
    /// In which room.
    pub room_id: OwnedRoomId,
    /// Whose.
    pub user_id: OwnedUserId,
    /// Up to which event.
    pub event_id: OwnedEventId,
    /// In which thread; `None` is all of them.
    pub thread: Option<String>,
    /// When; milliseconds since the epoch.
    pub received_at: i64,
}

impl Receipts {
    /// Has those taken that come before their events.
    pub(crate) fn take_early(&self, background: &Background) {
        let (receipts, stopping) = (self.clone(), background.stopping().clone());
        background.spawn(async move {
            while let Some(due) = stopping.run_until_cancelled(receipts.early.due()).await {
                for receipt in due {
                    if let Err(error) = receipts.take_now(&receipt).await {
                        tracing::warn!(%error, "a receipt of another server's user can't be stored");
                    }
                }
            }
        });
    }

    /// Takes a public receipt of a user of another server. One that can't be is passed over: of who isn't joined, or not
    /// ahead of the last one. One up to an event that isn't here waits for it, some minutes.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn take(&self, receipt: RemoteReceipt) -> Result<()> {
        if self.take_now(&receipt).await? {
            return Ok(());
        }
        self.early.keep(receipt.clone(), self.clock.now_ms());
        // It may have come before this was kept.
        if self
            .database
            .event_place(&receipt.event_id)
            .await?
            .is_some()
        {
            self.early.event_came(&receipt.event_id);
        }
        Ok(())
    }

    /// The number of a user, who gets one if they have none yet.
    async fn number_of(&self, user_id: &UserId) -> Result<i64> {
        if let Some(user_nid) = self.database.user_nid(user_id).await? {
            return Ok(user_nid);
        }
        let mut transaction = self.database.write().await?;
        let user_nid = self.database.intern_user(&mut transaction, user_id).await?;
        transaction.commit().await?;
        Ok(user_nid)
    }

    /// Takes a receipt, unless it's up to an event that isn't here: then gives `false`.
    async fn take_now(&self, receipt: &RemoteReceipt) -> Result<bool> {
        const PUBLIC: &str = "m.read";
        let Some(room) = self.registry.get(&receipt.room_id).await? else {
            return Ok(true);
        };
        let Some((room_nid, event_position)) = self.database.event_place(&receipt.event_id).await?
        else {
            return Ok(false);
        };
        let state = self.registry.load(&room).await?;
        if !room.may_have(&state, &receipt.user_id) {
            return Ok(true);
        }
        let thread = receipt.thread.as_deref().unwrap_or_default();
        let known = self.memory.room(&self.database, room.nid()).await?;
        let last = known.last(&receipt.user_id, PUBLIC, thread);
        if room_nid != room.nid() || last.is_some_and(|last| last.event_position >= event_position)
        {
            return Ok(true);
        }
        let user_nid = self.number_of(&receipt.user_id).await?;
        let write = ReceiptWrite {
            room_nid,
            user_nid,
            user_id: receipt.user_id.clone(),
            receipt_type: PUBLIC.to_owned(),
            thread: thread.to_owned(),
            event_id: receipt.event_id.clone(),
            event_position,
            received_at: receipt.received_at.min(self.clock.now_ms()),
            position: Assigned::default(),
        };
        self.commit(Write {
            receipts: vec![write],
            ..Write::default()
        })
        .await?;
        Ok(true)
    }
}
