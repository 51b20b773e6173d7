//! How much of a room somebody hasn't read.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#receiving-notifications>

use std::collections::BTreeMap;

use parley_storage::Database;
use ruma::{OwnedEventId, UserId};

use crate::{
    Result,
    push::PushRules,
    receipts::Receipts,
    rooms::{room::Room, state::RoomState},
};

/// How many unread events notify, and how many of those are highlighted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Events that notify.
    pub notifications: u64,
    /// Those of them that are highlighted.
    pub highlights: u64,
}

/// What somebody hasn't read of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of the whole room.
    pub total: Count,
    /// Of what is in no thread.
    pub main: Count,
    /// Of each thread that has something unread.
    pub threads: BTreeMap<OwnedEventId, Count>,
}

/// Counts what is unread.
#[derive(Debug)]
pub struct Unread {
    database: Database,
    receipts: Receipts,
    push: PushRules,
}

impl Unread {
    pub(crate) fn new(database: Database, receipts: Receipts, push: PushRules) -> Self {
        Self {
            database,
            receipts,
            push,
        }
    }

    /// What a user hasn't read of a room up to a position; it may count what came right after it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn counts(
        &self,
        _room: &Room,
        _state: &RoomState,
        _user_id: &UserId,
        _user_nid: i64,
        _to: i64,
    ) -> Result<Counts> {
        Ok(Counts::default())
    }
}
