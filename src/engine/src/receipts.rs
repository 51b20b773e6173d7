//! Receipts: up to where each user has read each room.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#receipts>

mod early;
mod memory;
mod remote;

use std::{collections::BTreeMap, sync::Arc};

use parley_protocol::{client_event::ClientFields, relation::Relation};
pub use parley_storage::user_streams::ReceiptRow as Receipt;
use parley_storage::{
    Database,
    commit::{AccountDataWrite, Assigned, ReceiptWrite, Write},
};
use ruma::{EventId, OwnedEventId, RoomId, UserId, events::receipt::ReceiptThread};
use serde_json::{Map, Value, json};

pub use self::remote::RemoteReceipt;
pub(crate) use self::{early::Early, memory::Memory};
use crate::{
    EngineError, Result,
    clock::Clock,
    rooms::{registry::Registry, room::Room},
    sessions::Session,
    stream::committer::Committer,
};

/// The name of what is in no thread.
const MAIN: &str = "main";
/// How far relations are followed to find the thread of an event.
const MAX_HOPS: usize = 3;

/// Whom a receipt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptKind {
    /// `m.read`: everyone in the room sees it.
    Public,
    /// `m.read.private`: only the user sees it.
    Private,
}

impl ReceiptKind {
    /// The name of the type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "m.read",
            Self::Private => "m.read.private",
        }
    }
}

/// Markers that are moved together.
#[derive(Clone, Debug, Default)]
pub struct ReadMarkers {
    /// Everything up to here was seen, or isn't wanted to be: `m.fully_read`.
    pub fully_read: Option<OwnedEventId>,
    /// `m.read`, without thread.
    pub public: Option<OwnedEventId>,
    /// `m.read.private`, without thread.
    pub private: Option<OwnedEventId>,
}

/// How far a user has read a room: positions of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadUpTo {
    /// Whatever the thread.
    pub unthreaded: i64,
    /// In single threads, `main` included.
    pub threads: BTreeMap<String, i64>,
}

impl ReadUpTo {
    /// Up to where a thread is read.
    pub fn in_thread(&self, thread: &str) -> i64 {
        let own = self.threads.get(thread).copied().unwrap_or_default();
        own.max(self.unthreaded)
    }
}

/// Sets and reads receipts.
#[derive(Clone, Debug)]
pub struct Receipts {
    database: Database,
    memory: Arc<Memory>,
    early: Arc<Early>,
    registry: Arc<Registry>,
    committer: Committer,
    clock: Arc<dyn Clock>,
}

impl Receipts {
    pub(crate) fn new(
        database: Database,
        memory: Arc<Memory>,
        early: Arc<Early>,
        registry: Arc<Registry>,
        committer: Committer,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            database,
            memory,
            early,
            registry,
            committer,
            clock,
        }
    }

    /// Sets one receipt. One that is not ahead of the user's last of the same type and thread changes nothing.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user isn't joined to the room, `M_NOT_FOUND` if it has no such event, `M_INVALID_PARAM` if
    /// the thread can't be one, or the event isn't in it.
    pub async fn set(
        &self,
        session: &Session,
        room_id: &RoomId,
        kind: ReceiptKind,
        thread: &ReceiptThread,
        event_id: &EventId,
    ) -> Result<()> {
        let (room, _) = self.registry.joined(&session.user_id, room_id).await?;
        let thread = thread_name(thread)?;
        let mut write = Write::default();
        if !thread.is_empty() {
            self.position(&room, event_id).await?;
            if !self.is_in_thread(event_id, &thread).await? {
                return Err(EngineError::invalid_param(
                    "the event isn't in the thread that `thread_id` names",
                ));
            }
        }
        let receipt = self.receipt(session, &room, kind, thread, event_id).await?;
        write.receipts.extend(receipt);
        self.commit(write).await
    }

    /// Sets the fully read marker, receipts, or all of them.
    ///
    /// # Errors
    /// As [`Receipts::set`].
    pub async fn set_markers(
        &self,
        session: &Session,
        room_id: &RoomId,
        markers: ReadMarkers,
    ) -> Result<()> {
        let (room, _) = self.registry.joined(&session.user_id, room_id).await?;
        let mut write = Write::default();
        if let Some(event_id) = &markers.fully_read {
            write
                .account_data
                .extend(self.fully_read(session, &room, event_id).await?);
        }
        let receipts = [
            (ReceiptKind::Public, &markers.public),
            (ReceiptKind::Private, &markers.private),
        ];
        for (kind, event_id) in receipts {
            if let Some(event_id) = event_id {
                let receipt = self
                    .receipt(session, &room, kind, String::new(), event_id)
                    .await?;
                write.receipts.extend(receipt);
            }
        }
        self.commit(write).await
    }

    /// The receipts of a room that came in a stretch of the stream, oldest first: everyone's public ones and `user_id`'s
    /// own. From the start (`after` is 0) it's all there are.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn changed(
        &self,
        room_nid: i64,
        after: i64,
        to: i64,
        user_id: &UserId,
    ) -> Result<Vec<Arc<Receipt>>> {
        let receipts = self.memory.room(&self.database, room_nid).await?;
        Ok(receipts.changed(after, to, user_id))
    }

    /// How far a user has read a room, by their receipts of any type.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn read_up_to(&self, room_nid: i64, user_id: &UserId) -> Result<ReadUpTo> {
        let receipts = self.memory.room(&self.database, room_nid).await?;
        Ok(receipts.read_up_to(user_id))
    }

    /// Reads the receipts of rooms together that will be asked for one by one.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn prepare(&self, room_nids: &[i64]) -> Result<()> {
        self.memory.prepare(&self.database, room_nids).await
    }

    /// The position up to which a user has read a room, whatever the thread.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn read_to(&self, room_nid: i64, user_id: &UserId) -> Result<i64> {
        Ok(self.read_up_to(room_nid, user_id).await?.unthreaded)
    }

    /// A receipt that is to be written; `None` if it is not ahead of what is there.
    async fn receipt(
        &self,
        session: &Session,
        room: &Room,
        kind: ReceiptKind,
        thread: String,
        event_id: &EventId,
    ) -> Result<Option<ReceiptWrite>> {
        let event_position = self.position(room, event_id).await?;
        let receipts = self.memory.room(&self.database, room.nid()).await?;
        let last = receipts.last(&session.user_id, kind.as_str(), &thread);
        if last.is_some_and(|last| last.event_position >= event_position) {
            return Ok(None);
        }
        Ok(Some(ReceiptWrite {
            room_nid: room.nid(),
            user_nid: session.user_nid,
            user_id: session.user_id.clone(),
            receipt_type: kind.as_str().to_owned(),
            thread,
            event_id: event_id.to_owned(),
            event_position,
            received_at: self.clock.now_ms(),
            position: Assigned::default(),
        }))
    }

    /// The fully read marker that is to be written; `None` if it stands there already. It may go back: it's the user's
    /// to move.
    async fn fully_read(
        &self,
        session: &Session,
        room: &Room,
        event_id: &EventId,
    ) -> Result<Option<AccountDataWrite>> {
        const TYPE: &str = "m.fully_read";
        self.position(room, event_id).await?;
        let content = json!({ "event_id": event_id }).to_string();
        let last = self
            .database
            .account_data(session.user_nid, room.nid(), TYPE)
            .await?;
        if last.as_ref() == Some(&content) {
            return Ok(None);
        }
        Ok(Some(AccountDataWrite {
            user_nid: session.user_nid,
            room_nid: room.nid(),
            event_type: TYPE.to_owned(),
            content,
            built_on: None,
            position: Assigned::default(),
        }))
    }

    /// Whether an event is in a thread, or in none for `main`: it is the thread's root, or its relations lead into it. Of
    /// what was redacted nobody can tell any more.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts>
    async fn is_in_thread(&self, event_id: &EventId, thread: &str) -> Result<bool> {
        let mut event_id = event_id.to_owned();
        for _ in 0..=MAX_HOPS {
            if event_id == thread {
                return Ok(true);
            }
            let Some(row) = self.database.event(&event_id).await? else {
                break;
            };
            if row.redacted_by.is_some() {
                return Ok(true);
            }
            let fields = ClientFields::parse(&row.json).ok();
            match fields.and_then(|fields| Relation::of_content(fields.content.get())) {
                Some(relation) if relation.rel_type == "m.thread" => {
                    return Ok(relation.target == thread);
                }
                Some(relation) => event_id = relation.target,
                None => break,
            }
        }
        Ok(thread == MAIN)
    }

    /// Where an event of a room stands.
    async fn position(&self, room: &Room, event_id: &EventId) -> Result<i64> {
        self.database
            .event_place(event_id)
            .await?
            .filter(|(room_nid, _)| *room_nid == room.nid())
            .map(|(_, position)| position)
            .ok_or_else(|| EngineError::not_found("this room has no such event"))
    }

    async fn commit(&self, write: Write) -> Result<()> {
        if write.receipts.is_empty() && write.account_data.is_empty() {
            return Ok(());
        }
        self.committer.commit(write).await
    }
}

/// How a thread is stored.
fn thread_name(thread: &ReceiptThread) -> Result<String> {
    match thread {
        ReceiptThread::Unthreaded => Ok(String::new()),
        ReceiptThread::Main => Ok(MAIN.to_owned()),
        ReceiptThread::Thread(root) => Ok(root.to_string()),
        _ => Err(EngineError::invalid_param(
            "`thread_id` is \"main\" or the event ID of a thread's root",
        )),
    }
}

/// The content of an `m.receipt` event with these receipts.
///
/// An event that a user has marked both with and without thread is told without: the content has room for one of them.
pub fn content(receipts: &[Arc<Receipt>]) -> Value {
    let mut events = Map::new();
    for receipt in receipts {
        let users = child(
            child(&mut events, receipt.event_id.as_str()),
            &receipt.receipt_type,
        );
        if !receipt.thread.is_empty() && users.contains_key(receipt.user_id.as_str()) {
            continue;
        }
        let mut data = Map::new();
        data.insert("ts".to_owned(), receipt.received_at.into());
        if !receipt.thread.is_empty() {
            data.insert("thread_id".to_owned(), receipt.thread.as_str().into());
        }
        users.insert(receipt.user_id.to_string(), data.into());
    }
    events.into()
}

/// The object at a key, made if there is none.
fn child<'a>(object: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = object
        .entry(key)
        .or_insert_with(|| Value::Object(Map::new()));
    match value {
        Value::Object(child) => child,
        _ => unreachable!("only objects are put in"),
    }
}
