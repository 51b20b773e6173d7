//! What is fleeting, or said of rooms and users, and concerns other servers too.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use parley_storage::user_streams::ReceiptRow;
use ruma::UserId;

use crate::stream::observer::Observer;

/// Tells other servers. Called on each node for everything that any node does, also of users of other servers: whoever
/// implements it chooses. It must be quick, and wait for nothing.
pub trait Outgoing: fmt::Debug + Send + Sync {
    /// Somebody types in a room, still or again, or no longer does.
    fn typing(&self, room_nid: i64, user_id: &UserId, types: bool);

    /// Somebody has read a room up to an event.
    fn receipt(&self, receipt: &Arc<ReceiptRow>);

    /// Somebody's presence changed. They are joined to these rooms.
    fn presence(&self, user_id: &UserId, rooms: &[i64]);
}

/// The way to whoever tells other servers, if there is one. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Announcer(Arc<OnceLock<Arc<dyn Outgoing>>>);

impl Announcer {
    /// Opens the way. Only the first call does something.
    pub fn connect(&self, outgoing: Arc<dyn Outgoing>) {
        // Whoever is there already stays.
        let _ = self.0.set(outgoing);
    }

    pub(crate) fn typing(&self, room_nid: i64, user_id: &UserId, types: bool) {
        if let Some(outgoing) = self.0.get() {
            outgoing.typing(room_nid, user_id, types);
        }
    }

    pub(crate) fn presence(&self, user_id: &UserId, rooms: &[i64]) {
        if let Some(outgoing) = self.0.get() {
            outgoing.presence(user_id, rooms);
        }
    }
}

impl Observer for Announcer {
    fn receipt(&self, receipt: &Arc<ReceiptRow>) {
        if let Some(outgoing) = self.0.get() {
            outgoing.receipt(receipt);
        }
    }
}
