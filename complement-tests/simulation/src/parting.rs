//! Where two servers part: for finding why their states differ.

use std::collections::{BTreeMap, BTreeSet};

use parley_storage::events::{EventRow, Span};
use ruma::{OwnedEventId, RoomId};
use serde::Deserialize;

use crate::world::{Failure, Server, StateIds};

/// The events of a room that are looked at, on each server.
const MAX_EVENTS: i64 = 10_000;

/// What of an event says what it is.
#[derive(Debug, Deserialize)]
struct Head {
    sender: String,
    #[serde(rename = "type")]
    event_type: String,
    state_key: Option<String>,
}

/// The events of a room by their ids.
type Events = BTreeMap<OwnedEventId, EventRow>;

/// The events that two servers have both in their timelines, with another state after them, where what they follow has the
/// same state after it on both, or isn't there: a line each, with what differs after `differing`.
pub(crate) async fn partings(
    one: &Server,
    other: &Server,
    room_id: &RoomId,
    differing: impl Fn(&StateIds, &StateIds) -> Vec<String>,
) -> Result<Vec<String>, Failure> {
    let (here, there) = (events(one, room_id).await?, events(other, room_id).await?);
    let mut apart = BTreeMap::new();
    for (event_id, event) in &here {
        if let Some(same) = there.get(event_id) {
            let (left, right) = (after(one, event).await?, after(other, same).await?);
            if left != right {
                apart.insert(event_id, differing(&left, &right).join("; "));
            }
        }
    }
    let mut lines = BTreeSet::new();
    for (event_id, differing) in &apart {
        let head: Head = serde_json::from_str(&here[*event_id].json)?;
        let mut follows = Vec::new();
        for id in previous(&here[*event_id])? {
            let is_at = |events: &Events| match events.get(&id) {
                Some(event) => format!(
                    "{}{}",
                    event.position,
                    if event.after_gap { "g" } else { "" }
                ),
                None => "-".to_owned(),
            };
            follows.push((
                apart.contains_key(&id),
                format!("{id} ({}, {})", is_at(&here), is_at(&there)),
            ));
        }
        if !follows.iter().any(|(is_apart, _)| *is_apart) {
            let Head {
                sender,
                event_type,
                state_key,
            } = head;
            let place = state_key.unwrap_or_else(|| "-".to_owned());
            let (here, there) = (here[*event_id].position, there[*event_id].position);
            let follows: Vec<String> = follows.into_iter().map(|(_, line)| line).collect();
            lines.insert((here, format!(
                "    parting at {event_id} ({here}, {there}), {event_type} {place} of {sender}, after {}: {differing}",
                follows.join(", ")
            )));
        }
    }
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

/// What an event is built on.
pub(crate) fn previous(event: &EventRow) -> Result<Vec<OwnedEventId>, Failure> {
    #[derive(Deserialize)]
    struct Built {
        prev_events: Vec<serde_json::Value>,
    }
    let built: Built = serde_json::from_str(&event.json)?;
    let ids = built.prev_events.iter().map(|previous| {
        // In room versions 1 and 2 an id comes with hashes.
        let id = previous.as_str().or_else(|| previous[0].as_str());
        Ok(OwnedEventId::try_from(id.unwrap_or_default())?)
    });
    ids.collect()
}

async fn events(server: &Server, room_id: &RoomId) -> Result<Events, Failure> {
    let database = server.database();
    let room = database.room(room_id).await?.ok_or("no such room")?;
    let whole = Span {
        room_nid: room.nid,
        after: i64::MIN,
        to: i64::MAX,
    };
    let rows = database.newest_events(whole, MAX_EVENTS).await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.event_id.clone(), row))
        .collect())
}

async fn after(server: &Server, event: &EventRow) -> Result<StateIds, Failure> {
    let rows = server.database().state_entries(event.snapshot).await?;
    Ok(rows
        .into_iter()
        .map(|row| ((row.event_type, row.state_key), row.event_id))
        .collect())
}
