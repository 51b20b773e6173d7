//! Who is told of what was committed.

use std::{fmt, sync::Arc};

use parley_storage::user_streams::ReceiptRow;

use crate::rooms::{room::Room, timeline::TimelineEvent};

/// Keeps something in memory that follows from what was committed. It is told of each change, by whichever node it was
/// made, before the position of the change is published: whoever reads the position finds it there.
///
/// What is called here holds up everything that is written, so it must be quick, and wait for nothing.
pub trait Observer: fmt::Debug + Send + Sync {
    /// There is a new event.
    fn event(&self, _room: &Room, _event: &TimelineEvent) {}

    /// There is a new receipt.
    fn receipt(&self, _receipt: &Arc<ReceiptRow>) {}

    /// A user's account data of a type changed; `room_nid` is 0 where it belongs to no room.
    fn account_data(&self, _user_nid: i64, _room_nid: i64, _event_type: &str) {}
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Observers(Arc<[Arc<dyn Observer>]>);

impl Observers {
    /// Tells these, in this order.
    pub fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self(observers.into())
    }

    pub(crate) fn event(&self, room: &Room, event: &TimelineEvent) {
        self.0
            .iter()
            .for_each(|observer| observer.event(room, event));
    }

    pub(crate) fn receipt(&self, receipt: ReceiptRow) {
        let receipt = Arc::new(receipt);
        self.0
            .iter()
            .for_each(|observer| observer.receipt(&receipt));
    }

    pub(crate) fn account_data(&self, user_nid: i64, room_nid: i64, event_type: &str) {
        self.0
            .iter()
            .for_each(|observer| observer.account_data(user_nid, room_nid, event_type));
    }
}
