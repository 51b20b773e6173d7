//! Whether a room allows an event, by ruma's implementation of the authorisation rules.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#authorization-rules>

use ruma::{
    UserId,
    events::{StateEventType, TimelineEventType},
    state_res::{auth_types_for_event, check_state_dependent_auth_rules},
};
use serde_json::value::RawValue;

use crate::{Pdu, RoomVersion, StateEvent};

/// The places of the room's state that decide on an event; their events become its `auth_events`.
///
/// # Errors
/// Says what is wrong with the event's content, where that names further places.
pub fn deciding_state(
    event_type: &TimelineEventType,
    sender: &UserId,
    state_key: Option<&str>,
    content: &RawValue,
    version: &RoomVersion,
) -> Result<Vec<(StateEventType, String)>, String> {
    auth_types_for_event(
        event_type,
        sender,
        state_key,
        content,
        &version.rules().authorization,
    )
}

/// Whether the room, whose current state `fetch` gives, allows `event`.
///
/// # Errors
/// The reason why not, fit for the person who sent it.
pub fn check<'a>(
    event: &Pdu,
    version: &RoomVersion,
    fetch: impl Fn(&StateEventType, &str) -> Option<&'a StateEvent>,
) -> Result<(), String> {
    check_state_dependent_auth_rules(&version.rules().authorization, event, fetch)
}
