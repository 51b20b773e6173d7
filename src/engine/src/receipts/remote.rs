//! Receipts of users of other servers.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parley_storage::commit::{Assigned, ReceiptWrite, Write};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};

use super::Receipts;
use crate::{Result, background::Background, rooms::room::Room};

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

/// A receipt that is news: where, and up to which position.
struct Fresh {
    room_nid: i64,
    event_position: i64,
    receipt: RemoteReceipt,
}

/// The type of the receipts that servers tell.
const PUBLIC: &str = "m.read";

/// Threads of one room in which a user's receipts are kept; nothing says that the threads are there.
const MAX_THREADS: usize = 500;

/// Where receipts up to events that aren't here stand: before all events, history included, and by their time among
/// themselves, which is not negative.
const NOWHERE: i64 = i64::MIN;

impl Receipts {
    /// Has those taken that come before their events.
    pub(crate) fn take_early(&self, background: &Background) {
        let (receipts, stopping) = (self.clone(), background.stopping().clone());
        background.spawn(async move {
            while let Some(due) = stopping.run_until_cancelled(receipts.early.due()).await {
                if let Err(error) = receipts.take_now(due).await {
                    tracing::warn!(%error, "receipts of other servers' users can't be stored");
                }
            }
        });
    }

    /// Takes public receipts of users of another server, all at once. One that can't be is passed over: of who isn't joined,
    /// or not ahead of the last one. One up to an event that isn't here waits for it, some minutes; if it's the first of its
    /// user, it is told at once all the same, and gives way to any that is up to an event of the room.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn take(&self, receipts: Vec<RemoteReceipt>) -> Result<()> {
        let early = self.take_now(receipts).await?;
        if early.is_empty() {
            return Ok(());
        }
        let ids: Vec<OwnedEventId> = early.iter().map(|early| early.event_id.clone()).collect();
        let now = self.clock.now_ms();
        early
            .into_iter()
            .for_each(|early| self.early.keep(early, now));
        // They may have come before these were kept.
        let came = self.database.event_places(ids.iter().map(|id| &**id));
        for event_id in came.await?.keys() {
            self.early.event_came(event_id);
        }
        Ok(())
    }

    /// Takes receipts up to events that are here; gives the others.
    async fn take_now(&self, receipts: Vec<RemoteReceipt>) -> Result<Vec<RemoteReceipt>> {
        let ids = receipts.iter().map(|receipt| &*receipt.event_id);
        let places = self.database.event_places(ids).await?;
        let mut rooms: HashMap<OwnedRoomId, Option<Arc<Room>>> = HashMap::new();
        let (mut news, mut early) = (Vec::new(), Vec::new());
        let now = self.clock.now_ms();
        for mut receipt in receipts {
            receipt.received_at = receipt.received_at.clamp(0, now);
            let room = match rooms.get(&receipt.room_id) {
                Some(room) => room.clone(),
                None => {
                    let room = self.registry.get(&receipt.room_id).await?;
                    rooms.insert(receipt.room_id.clone(), room.clone());
                    room
                }
            };
            match (room, places.get(&receipt.event_id)) {
                (None, _) => {}
                (Some(room), None) => {
                    let nowhere = NOWHERE + receipt.received_at;
                    // Only without thread: the threads of events that aren't here would be any number.
                    if receipt.thread.is_none() {
                        news.extend(self.news(&room, receipt.clone(), nowhere).await?);
                    }
                    early.push(receipt);
                }
                (Some(room), Some((room_nid, position))) if room.nid() == *room_nid => {
                    news.extend(self.news(&room, receipt, *position).await?);
                }
                (Some(_), Some(_)) => {}
            }
        }
        self.store(news).await?;
        Ok(early)
    }

    /// A receipt up to an event of a room, if its user may be in the room and it is ahead of the last one.
    async fn news(
        &self,
        room: &Room,
        receipt: RemoteReceipt,
        event_position: i64,
    ) -> Result<Option<Fresh>> {
        let state = self.registry.load(room).await?;
        if !room.may_have(&state, &receipt.user_id) {
            return Ok(None);
        }
        let thread = receipt.thread.as_deref().unwrap_or_default();
        let known = self.memory.room(&self.database, room.nid()).await?;
        let is_news = match known.last(&receipt.user_id, PUBLIC, thread) {
            Some(last) => last.event_position < event_position,
            None => known.count(&receipt.user_id) < MAX_THREADS,
        };
        Ok(is_news.then(|| Fresh {
            room_nid: room.nid(),
            event_position,
            receipt,
        }))
    }

    async fn store(&self, news: Vec<Fresh>) -> Result<()> {
        if news.is_empty() {
            return Ok(());
        }
        let users: HashSet<OwnedUserId> = news
            .iter()
            .map(|news| news.receipt.user_id.clone())
            .collect();
        let nids = self.numbers_of(users).await?;
        // Of several of a user in a thread, the newest.
        let mut newest: HashMap<(i64, i64, String), ReceiptWrite> = HashMap::new();
        for news in news {
            let receipt = news.receipt;
            let Some(user_nid) = nids.get(&receipt.user_id).copied() else {
                continue;
            };
            let write = ReceiptWrite {
                room_nid: news.room_nid,
                user_nid,
                user_id: receipt.user_id,
                receipt_type: PUBLIC.to_owned(),
                thread: receipt.thread.unwrap_or_default(),
                event_id: receipt.event_id,
                event_position: news.event_position,
                received_at: receipt.received_at,
                position: Assigned::default(),
            };
            let place = (write.room_nid, user_nid, write.thread.clone());
            let known = newest.get(&place);
            if known.is_none_or(|known| known.event_position < write.event_position) {
                newest.insert(place, write);
            }
        }
        self.commit(Write {
            receipts: newest.into_values().collect(),
            ..Write::default()
        })
        .await
    }

    /// The numbers of users, who get one if they have none yet.
    async fn numbers_of(&self, users: HashSet<OwnedUserId>) -> Result<HashMap<OwnedUserId, i64>> {
        let mut nids = self
            .database
            .user_nids(users.iter().map(|id| &**id))
            .await?;
        let new: Vec<OwnedUserId> = users
            .into_iter()
            .filter(|user_id| !nids.contains_key(user_id))
            .collect();
        if new.is_empty() {
            return Ok(nids);
        }
        let mut transaction = self.database.write().await?;
        let made = self.database.intern_users(&mut transaction, &new).await?;
        transaction.commit().await?;
        nids.extend(made);
        Ok(nids)
    }
}
