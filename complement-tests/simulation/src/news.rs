//! What servers that were put out of a room by the resolution of a fork would know if they were told.
//!
//! Nobody tells them: others tell what happens in a room to who is in it. So nothing would show whether they were put out rightly.
//! Here they are given what the others have; then they have to come to the same.

use std::collections::HashSet;

use parley_storage::events::{EventRow, Span};
use ruma::{OwnedEventId, OwnedRoomId};
use serde_json::value::RawValue;

use crate::{
    judge::inside,
    parting::previous,
    world::{Failure, Server, World},
};

/// Events of a room that are looked at.
const MAX_EVENTS: i64 = 10_000;
/// Events that are given at once.
const GIVEN: usize = 50;

/// Gives each server that takes itself to be in a room, and isn't by the account of another there, what the other has and it
/// lacks. How many events that are.
pub(crate) async fn tell_put_out(world: &World) -> Result<usize, Failure> {
    let mut told = 0;
    for room_id in &world.rooms {
        let inside = inside(world, room_id).await?;
        for index in inside.keys() {
            let server = &world.servers[*index];
            let others = inside.iter().filter(|(other, _)| *other != index);
            let others = others.filter(|(_, state)| !state.has_server(&server.name));
            for (other, _) in others {
                let other = &world.servers[*other];
                let events = lacked(server, other, room_id).await?;
                told += events.len();
                for events in events.chunks(GIVEN) {
                    let events = events.to_vec();
                    let rooms = server.engine_rooms();
                    rooms.take_transaction(&other.name, events).await?;
                }
            }
        }
    }
    Ok(told)
}

/// Whether a server has everything that is built on in a room by the account of another.
pub(crate) async fn knows_ends(
    server: &Server,
    other: &Server,
    room_id: &OwnedRoomId,
) -> Result<bool, Failure> {
    let room = other
        .database()
        .room(room_id)
        .await?
        .ok_or("no such room")?;
    let ends = other.database().events_at(room.extremities).await?;
    let ends: Vec<OwnedEventId> = ends.into_iter().map(|row| row.event_id).collect();
    let known = server.database().known_events(&ends).await?;
    Ok(ends.iter().all(|id| known.contains_key(id)))
}

/// The events of a room that one server has, and another not, as far as they are built on what that has, each after those that
/// it is built on.
async fn lacked(
    server: &Server,
    other: &Server,
    room_id: &OwnedRoomId,
) -> Result<Vec<Box<RawValue>>, Failure> {
    let rows = all_events(other, room_id).await?;
    let ids: Vec<OwnedEventId> = rows.iter().map(|row| row.event_id.clone()).collect();
    let known = server.database().known_events(&ids).await?;
    let known = known.into_iter();
    let mut has: HashSet<OwnedEventId> = known
        .filter(|(_, event)| event.snapshot.is_some())
        .map(|(id, _)| id)
        .collect();
    let mut events = Vec::new();
    for row in rows {
        let prev = previous(&row)?;
        let is_anchored = !prev.is_empty() && prev.iter().all(|id| has.contains(id));
        if is_anchored && has.insert(row.event_id) {
            events.push(RawValue::from_string(row.json)?);
        }
    }
    Ok(events)
}

/// What a server has of a room, in the timeline or refused, in the order in which it came.
async fn all_events(server: &Server, room_id: &OwnedRoomId) -> Result<Vec<EventRow>, Failure> {
    let database = server.database();
    let room = database.room(room_id).await?.ok_or("no such room")?;
    let whole = Span {
        room_nid: room.nid,
        after: i64::MIN,
        to: i64::MAX,
    };
    let mut rows = database.oldest_events(whole, MAX_EVENTS).await?;
    let refused = database.refused_since(room.nid, i64::MIN, MAX_EVENTS);
    let refused = refused.await?.into_iter().map(|row| row.position);
    rows.extend(database.events_at(refused.collect()).await?);
    rows.sort_unstable_by_key(|row| row.position);
    Ok(rows)
}
