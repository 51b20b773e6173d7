//! What is fleeting, or said of rooms and users, and concerns other servers too.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use parley_storage::user_streams::ReceiptRow;
use ruma::{ServerName, UserId};

use crate::stream::{
    nodes::{Listener, News, Nodes},
    observer::Observer,
};

/// Tells other servers. Called on each node for everything that any node does, also of users of other servers: whoever
/// implements it chooses. It must be quick, and wait for nothing.
pub trait Outgoing: fmt::Debug + Send + Sync {
    /// Somebody types in a room, still or again, or no longer does.
    fn typing(&self, room_nid: i64, user_id: &UserId, types: bool);

    /// Somebody has read a room up to an event.
    fn receipt(&self, receipt: &Arc<ReceiptRow>);

    /// Somebody's presence changed. They are joined to these rooms.
    fn presence(&self, user_id: &UserId, rooms: &[i64]);

    /// Another node didn't reach a server, and has stored that.
    fn server_failed(&self, server: &ServerName);

    /// Another node has heard from a server that wasn't reached, or is to have it tried again.
    fn server_returned(&self, server: &ServerName);
}

/// The way to whoever tells other servers, if there is one. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Announcer {
    outgoing: Arc<OnceLock<Arc<dyn Outgoing>>>,
    nodes: Nodes,
}

impl Announcer {
    /// One for a node that is alone.
    pub fn alone() -> Self {
        Self::new(Nodes::none())
    }

    pub(crate) fn new(nodes: Nodes) -> Self {
        Self {
            outgoing: Arc::default(),
            nodes,
        }
    }

    /// Opens the way. Only the first call does something.
    pub fn connect(&self, outgoing: Arc<dyn Outgoing>) {
        // Whoever is there already stays.
        let _ = self.outgoing.set(outgoing);
    }

    /// Tells the other nodes that a server wasn't reached.
    pub fn server_failed(&self, server: &ServerName) {
        let server = server.to_owned();
        self.nodes.tell(News::ServerFailed { server });
    }

    /// Tells the other nodes that a server has spoken, or is to be tried again.
    pub fn server_returned(&self, server: &ServerName) {
        let server = server.to_owned();
        self.nodes.tell(News::ServerReturned { server });
    }

    pub(crate) fn typing(&self, room_nid: i64, user_id: &UserId, types: bool) {
        if let Some(outgoing) = self.outgoing.get() {
            outgoing.typing(room_nid, user_id, types);
        }
    }

    pub(crate) fn presence(&self, user_id: &UserId, rooms: &[i64]) {
        if let Some(outgoing) = self.outgoing.get() {
            outgoing.presence(user_id, rooms);
        }
    }
}

impl Observer for Announcer {
    fn receipt(&self, receipt: &Arc<ReceiptRow>) {
        if let Some(outgoing) = self.outgoing.get() {
            outgoing.receipt(receipt);
        }
    }
}

impl Listener for Announcer {
    fn heard(&self, _: u32, news: &News) {
        let Some(outgoing) = self.outgoing.get() else {
            return;
        };
        match news {
            News::ServerFailed { server } => outgoing.server_failed(server),
            News::ServerReturned { server } => outgoing.server_returned(server),
            _ => {}
        }
    }

    fn gone(&self, _: u32) {}
}
