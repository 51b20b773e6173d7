//! Events that come as the room itself would have built them: most of what another server sends.
//!
//! One that is built on exactly the room's head, and names as what allows it what allows it in the room as it is, needs
//! nothing to be looked for: all of that is in memory, and what it names allows it if the state before it does.

use std::collections::HashSet;

use parley_protocol::{Pdu, auth};
use ruma::{EventId, events::TimelineEventType};

use super::{
    receive::{builds_on, current_snapshot},
    resolve::StateBefore,
};
use crate::{
    Result,
    rooms::{
        Rooms,
        room::{Head, Room},
    },
};

/// An event that came as it was to be expected, and that is allowed where it stands.
pub(super) struct Expected {
    /// The room's current state.
    pub(super) before: StateBefore,
    /// The redactions of it that came before it, by their positions.
    pub(super) early_redactions: Vec<i64>,
}

impl Rooms {
    /// What has to be known of an event that comes as the room itself would have built it, that is allowed and that isn't here
    /// yet; `None` if it's another.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn expected(&self, room: &Room, pdu: &Pdu) -> Result<Option<Expected>> {
        // As long as not all members are known, what an event says of them is believed.
        if room.lacks_members() {
            return Ok(None);
        }
        let head = self.head_now(room).await?;
        let base = current_snapshot(&head);
        if base == 0 || !is_as_built_here(room, &head, pdu) {
            return Ok(None);
        }
        let arrival = self.database.arrival(room.nid(), &pdu.event_id).await?;
        Ok((!arrival.is_known).then_some(Expected {
            before: StateBefore {
                base,
                resolved: None,
            },
            early_redactions: arrival.early_redactions,
        }))
    }
}

/// Whether an event is built on exactly the head, its `auth_events` are what they would be if it were built here, and the state
/// allows it.
fn is_as_built_here(room: &Room, head: &Head, pdu: &Pdu) -> bool {
    let fields = &pdu.fields;
    let Some(state) = head.state.as_ref() else {
        return false;
    };
    if fields.event_type == TimelineEventType::RoomCreate || !builds_on(head, pdu) {
        return false;
    }
    let deciding = state.deciding(
        &fields.event_type,
        &fields.sender,
        fields.state_key.as_deref(),
        &fields.content,
        room.version(),
    );
    let Ok(deciding) = deciding else {
        return false;
    };
    let here: HashSet<&EventId> = deciding.iter().map(|event| &*event.event_id).collect();
    let named: HashSet<&EventId> = fields.auth_events.iter().map(AsRef::as_ref).collect();
    let is_as_built = named.len() == fields.auth_events.len() && named == here;
    is_as_built
        && auth::check(pdu, room.version(), |event_type, state_key| {
            state.event(event_type, state_key)
        })
        .is_ok()
}
