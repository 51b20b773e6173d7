//! Whether a room allows an event, by ruma's implementation of the authorisation rules.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#authorization-rules>

use std::{collections::HashMap, sync::Arc};

use ruma::{
    EventId, UserId,
    events::{StateEventType, TimelineEventType},
    state_res::{
        Event, auth_types_for_event, check_state_dependent_auth_rules,
        check_state_independent_auth_rules,
    },
};
use serde_json::value::RawValue;

use crate::{Pdu, RoomVersion, StateEvent, owned_state};

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
    check_state_dependent(event, version, fetch)
}

/// The rules that look at the state of the room, which `fetch` gives: ruma's, and what the version has in place of them.
///
/// # Errors
/// The reason why the event isn't allowed.
pub(crate) fn check_state_dependent<E: Event>(
    event: &Pdu,
    version: &RoomVersion,
    fetch: impl Fn(&StateEventType, &str) -> Option<E>,
) -> Result<(), String> {
    let rules = &version.rules().authorization;
    if !version.has_owned_state() {
        return check_state_dependent_auth_rules(rules, event, fetch);
    }
    check_state_dependent_auth_rules(rules, owned_state::masked(event).as_ref(), &fetch)?;
    owned_state::check(event, version, fetch)
}

/// Whether an event's `auth_events` are such that may decide on it, and the room allows it by them: what is checked of
/// an event of another server before its place in the room is looked at.
///
/// # Errors
/// The reason why not.
pub fn check_by_auth_events(
    event: &Pdu,
    version: &RoomVersion,
    fetch: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<(), String> {
    let rules = &version.rules().authorization;
    check_state_independent_auth_rules(rules, event, |id| {
        fetch(id).map(|pdu| pdu.as_ref().clone())
    })?;
    let mut state: HashMap<(StateEventType, String), Pdu> = HashMap::new();
    let create = event
        .fields
        .room_id
        .as_ref()
        .filter(|_| version.room_id_is_create_event())
        .and_then(|room_id| EventId::parse(room_id.as_str().replacen('!', "$", 1)).ok());
    for id in event.fields.auth_events.iter().chain(&create) {
        if let Some(pdu) = fetch(id)
            && let Some(state_key) = &pdu.fields.state_key
        {
            let key = (
                pdu.fields.event_type.to_string().into(),
                state_key.to_owned(),
            );
            state.insert(key, pdu.as_ref().clone());
        }
    }
    check_state_dependent(event, version, |event_type, state_key| {
        state.get(&(event_type.clone(), state_key.to_owned()))
    })
}
