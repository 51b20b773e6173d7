//! What has to hold once the network is whole and everything has been told.

use std::{collections::BTreeMap, sync::Arc};

use parley_engine::rooms::state::RoomState;
use ruma::{OwnedEventId, OwnedRoomId};

use crate::{
    actions::Acknowledged,
    news::knows_ends,
    parting::partings,
    world::{Failure, StateIds, World, ids},
};

/// The differences of two states that are shown.
const SHOWN: usize = 8;

/// Since when which server has been in which room without a break, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Stays(BTreeMap<(usize, OwnedRoomId), u64>);

impl Stays {
    /// Looks where servers are now.
    pub(crate) async fn look(&mut self, world: &World, now: u64) -> Result<(), Failure> {
        for room_id in &world.rooms {
            for (index, server) in world.servers.iter().enumerate() {
                let key = (index, room_id.clone());
                match server.state(room_id).await? {
                    Some(_) => _ = self.0.entry(key).or_insert(now),
                    None => _ = self.0.remove(&key),
                }
            }
        }
        Ok(())
    }

    /// Whether a server was in a room at a time, and has been since.
    fn since(&self, server: usize, room_id: &OwnedRoomId, time: u64) -> bool {
        let since = self.0.get(&(server, room_id.clone()));
        since.is_some_and(|since| *since < time)
    }
}

/// The servers that have users in a room, each by its own account, with the state that it has.
pub(crate) type Inside = BTreeMap<usize, Arc<RoomState>>;

/// Whether each of two servers takes the other to be in a room, where both take themselves to be. If not, one was put out by the
/// resolution of a fork; it was told what the other knows ([`news`](crate::news)), and must have come to the same, unless it
/// couldn't be told all.
async fn are_together(
    world: &World,
    room_id: &OwnedRoomId,
    inside: &Inside,
    one: usize,
    other: usize,
) -> Result<bool, Failure> {
    for (server, other) in [(one, other), (other, one)] {
        let (Some(_), Some(state)) = (inside.get(&server), inside.get(&other)) else {
            continue;
        };
        let (server, other) = (&world.servers[server], &world.servers[other]);
        if !state.has_server(&server.name) && !knows_ends(server, other, room_id).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a server takes itself to be in a room, and wasn't told by any of the others there that it isn't.
pub(crate) async fn is_put_out(
    world: &World,
    room_id: &OwnedRoomId,
    server: usize,
) -> Result<bool, Failure> {
    let inside = inside(world, room_id).await?;
    for other in inside.keys().filter(|other| **other != server) {
        if are_together(world, room_id, &inside, *other, server).await? {
            return Ok(false);
        }
    }
    Ok(inside.len() > 1)
}

/// What is wrong, a line each; nothing if all is well.
pub(crate) async fn judge(
    world: &World,
    stays: &Stays,
    acknowledged: &[Acknowledged],
) -> Result<Vec<String>, Failure> {
    let mut wrong = Vec::new();
    for room_id in &world.rooms {
        let inside = inside(world, room_id).await?;
        states_agree(world, room_id, &inside, &mut wrong).await?;
        nothing_is_lost(world, stays, room_id, &inside, acknowledged, &mut wrong).await?;
        redactions_agree(world, room_id, &inside, acknowledged, &mut wrong).await?;
    }
    Ok(wrong)
}

pub(crate) async fn inside(world: &World, room_id: &OwnedRoomId) -> Result<Inside, Failure> {
    let mut inside = BTreeMap::new();
    for (index, server) in world.servers.iter().enumerate() {
        if let Some(state) = server.state(room_id).await? {
            inside.insert(index, state);
        }
    }
    Ok(inside)
}

async fn states_agree(
    world: &World,
    room_id: &OwnedRoomId,
    inside: &Inside,
    wrong: &mut Vec<String>,
) -> Result<(), Failure> {
    for (index, state) in inside {
        let server = &world.servers[*index];
        let state = ids(state);
        // The first of those that it is together with.
        let mut first = None;
        for (other, expected) in inside.iter().take_while(|(other, _)| *other != index) {
            if are_together(world, room_id, inside, *other, *index).await? {
                first = Some((other, expected));
                break;
            }
        }
        if let Some((other, expected)) = first {
            let differing = differences(&ids(expected), &state);
            if !differing.is_empty() {
                let other = &world.servers[*other];
                wrong.push(format!(
                    "{room_id}: {} and {} differ: {}",
                    other.name,
                    server.name,
                    differing.join("; ")
                ));
                wrong.extend(partings(other, server, room_id, differences).await?);
            }
        }
        let stored = server.stored_state(room_id).await?;
        let differing = differences(&state, &stored);
        if !differing.is_empty() {
            let (name, differing) = (&server.name, differing.join("; "));
            wrong.push(format!(
                "{room_id}: {name} has in memory and stored: {differing}"
            ));
        }
    }
    Ok(())
}

fn differences(one: &StateIds, other: &StateIds) -> Vec<String> {
    let places = one
        .keys()
        .chain(other.keys().filter(|place| !one.contains_key(*place)));
    let shown = |id: Option<&OwnedEventId>| id.map_or("nothing".to_owned(), ToString::to_string);
    places
        .filter(|place| one.get(*place) != other.get(*place))
        .map(|place| {
            let (event_type, state_key) = place;
            let (left, right) = (shown(one.get(place)), shown(other.get(place)));
            format!("{event_type} {state_key:?}: {left} / {right}")
        })
        .take(SHOWN)
        .collect()
}

/// What a server acknowledged, it has in the room's timeline; and every server that was in the room then, and stayed, knows it.
/// What is from before a server came is history, which it asks for when somebody wants to read it.
async fn nothing_is_lost(
    world: &World,
    stays: &Stays,
    room_id: &OwnedRoomId,
    inside: &Inside,
    acknowledged: &[Acknowledged],
    wrong: &mut Vec<String>,
) -> Result<(), Failure> {
    for event in acknowledged
        .iter()
        .filter(|event| event.room_id == *room_id)
    {
        let own = &world.servers[event.server];
        if own.database().event(&event.event_id).await?.is_none() {
            let (name, id, at) = (&own.name, &event.event_id, event.at);
            wrong.push(format!(
                "{room_id}: {name} has lost {id}, acknowledged at {at}"
            ));
        }
        // A server that was put out meanwhile, without knowing it, spoke to nobody.
        if !stays.since(event.server, room_id, event.at) {
            continue;
        }
        for (index, server) in world.servers.iter().enumerate() {
            let was_there = stays.since(index, room_id, event.at)
                && are_together(world, room_id, inside, event.server, index).await?;
            if was_there && !server.database().has_event(&event.event_id).await? {
                let (name, id, at) = (&server.name, &event.event_id, event.at);
                let of = &own.name;
                wrong.push(format!(
                    "{room_id}: {name} never got {id} of {of}, sent at {at}"
                ));
            }
        }
    }
    Ok(())
}

/// What redacts an event on one server does so on all that have both in the timeline. A server that doesn't have the redaction
/// there may show the event as it was: it came into the room later, or the room as it was there didn't let the redaction be
/// shown ("soft failure", which the specification leaves to each server). So may one that got the redaction as what another
/// left of it: a redaction that is redacted no longer says what it redacts.
async fn redactions_agree(
    world: &World,
    room_id: &OwnedRoomId,
    inside: &Inside,
    acknowledged: &[Acknowledged],
    wrong: &mut Vec<String>,
) -> Result<(), Failure> {
    for event in acknowledged
        .iter()
        .filter(|event| event.room_id == *room_id)
    {
        let (mut as_it_was, mut redactions) = (Vec::new(), BTreeMap::new());
        for index in inside.keys() {
            let database = world.servers[*index].database();
            match database.event(&event.event_id).await? {
                Some(row) if row.redacted_by.is_some() => {
                    let by = database.events_at(row.redacted_by.into_iter().collect());
                    let by = by.await?.into_iter().map(|row| (row.event_id, *index));
                    redactions.extend(by);
                }
                Some(_) => as_it_was.push(*index),
                None => {}
            }
        }
        for index in as_it_was {
            let server = &world.servers[index];
            for (redaction, by) in &redactions {
                let redaction_here = server.database().event(redaction).await?;
                if redaction_here.is_some_and(|row| row.redacted_by.is_none()) {
                    let (name, other) = (&server.name, &world.servers[*by].name);
                    let id = &event.event_id;
                    wrong.push(format!(
                        "{room_id}: {redaction} redacts {id} on {other} and not on {name}"
                    ));
                }
            }
        }
    }
    Ok(())
}
