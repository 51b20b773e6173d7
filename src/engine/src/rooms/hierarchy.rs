//! Exploring spaces.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#discovering-rooms-within-spaces>

mod servers;
pub(super) mod told;

use std::{collections::HashSet, sync::Arc};

use parley_protocol::{StateEvent, client_event::dated_event};
use ruma::{
    OwnedRoomId, OwnedServerName, RoomId,
    room::{RoomSummary, RoomType},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use self::told::{Asking, Told};
use super::{
    Rooms,
    summaries::{Here, Viewer},
};
use crate::{EngineError, Result, sessions::Session};

pub use self::servers::ServerHierarchy;

/// Rooms of a page unless the client asks for another number.
const DEFAULT_PAGE: usize = 50;
/// The most rooms of a page.
const MAX_PAGE: usize = 200;
/// How far a space is explored at most, however the client asks.
const MAX_DEPTH: usize = 100;
/// The most rooms that are looked at for one answer.
const MAX_ROOMS: usize = 20_000;
/// Servers of one child that may be asked for it.
const MAX_VIA: usize = 5;
/// The most characters of an `order`.
const MAX_ORDER: usize = 50;

/// What is asked of a space.
#[derive(Clone, Debug, Default)]
pub struct HierarchyRequest {
    /// Whether only suggested rooms are meant.
    pub suggested_only: bool,
    /// How far to go; as far as this server goes if `None`.
    pub max_depth: Option<usize>,
    /// The most rooms; a default if `None`.
    pub limit: Option<usize>,
    /// Where to begin: a token of an earlier page.
    pub from: Option<String>,
}

/// A part of a space.
#[derive(Clone, Debug)]
pub struct HierarchyPage {
    /// The rooms, each before its children.
    pub rooms: Vec<HierarchyRoom>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// A room of a space.
#[derive(Clone, Debug)]
pub struct HierarchyRoom {
    /// What it looks like.
    pub summary: RoomSummary,
    /// Its `m.space.child` events, stripped but for their time, in the order of the rooms.
    pub children: Vec<Box<RawValue>>,
}

/// Where a page ended. It holds for the same arguments only.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    suggested_only: bool,
    max_depth: usize,
    /// How many rooms were told.
    told: usize,
    /// The last of them.
    last: OwnedRoomId,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '_');
        let suggested_only = match parts.next()? {
            "s" => true,
            "a" => false,
            _ => return None,
        };
        Some(Self {
            suggested_only,
            max_depth: parts.next()?.parse().ok()?,
            told: parts.next()?.parse().ok()?,
            last: parts.next()?.try_into().ok()?,
        })
    }

    fn token(&self) -> String {
        let suggested = if self.suggested_only { "s" } else { "a" };
        format!("{suggested}_{}_{}_{}", self.max_depth, self.told, self.last)
    }
}

/// A room that is to be looked at.
struct Step {
    room_id: OwnedRoomId,
    depth: usize,
    known: Known,
}

/// What is known of a room before it is looked at.
enum Known {
    /// This server is in it.
    Here(Here),
    /// Other servers may tell of it.
    Elsewhere(Box<Elsewhere>),
}

/// A room that this server isn't in.
struct Elsewhere {
    /// Who may tell of it.
    via: Vec<OwnedServerName>,
    /// What was told of it along with the space that it is in.
    summary: Option<RoomSummary>,
}

/// A room that was looked at.
struct Found {
    summary: RoomSummary,
    children: Vec<Child>,
    /// What else the server said that told of it.
    told: Option<Arc<Told>>,
}

/// A child that a space names.
#[derive(Clone, Debug)]
struct Child {
    room_id: OwnedRoomId,
    order: Option<String>,
    is_suggested: bool,
    via: Vec<OwnedServerName>,
    event: Arc<StateEvent>,
}

impl Rooms {
    /// A part of what is below a space: the space itself first, then its children, each followed by its own.
    ///
    /// `GET /rooms/{roomId}/hierarchy`
    ///
    /// # Errors
    /// `M_FORBIDDEN` if there is no such room that may be shown, `M_INVALID_PARAM` if the token is none of these
    /// arguments.
    pub async fn hierarchy(
        &self,
        session: &Session,
        room_id: &RoomId,
        request: &HierarchyRequest,
    ) -> Result<HierarchyPage> {
        let max_depth = request.max_depth.unwrap_or(MAX_DEPTH).min(MAX_DEPTH);
        let from = match &request.from {
            None => None,
            Some(token) => Some(place(token, request, max_depth)?),
        };
        let max_depth = from.as_ref().map_or(max_depth, |place| place.max_depth);
        let suggested_only = from
            .as_ref()
            .map_or(request.suggested_only, |place| place.suggested_only);
        let limit = request.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
        // A page's worth more for what may have come before the token's place meanwhile.
        let before = from.as_ref().map_or(0, |place| place.told + MAX_PAGE);
        let wanted = before + limit + 1;
        let mut rooms = self
            .explore(session, room_id, suggested_only, max_depth, wanted)
            .await?;
        let begin = from.map_or(0, |place| begin(&rooms, &place));
        let mut page = rooms.split_off(begin.min(rooms.len()));
        let more = page.len() > limit;
        page.truncate(limit);
        let next = page.last().filter(|_| more).map(|last| Place {
            suggested_only,
            max_depth,
            told: begin + limit,
            last: last.summary.room_id.clone(),
        });
        Ok(HierarchyPage {
            rooms: page,
            next: next.map(|place| place.token()),
        })
    }

    /// The first `wanted` rooms.
    async fn explore(
        &self,
        session: &Session,
        root: &RoomId,
        suggested_only: bool,
        max_depth: usize,
        wanted: usize,
    ) -> Result<Vec<HierarchyRoom>> {
        let viewer = self.viewer(Some(session)).await?;
        let mut asking = Asking::default();
        let own = root.server_name().map(ToOwned::to_owned);
        let roots = [(root, own.as_slice())];
        let mut stack = self.next_steps(&viewer, roots, None, 0).await?;
        let mut seen = HashSet::new();
        let mut rooms = Vec::new();
        while let Some(step) = stack.pop() {
            if rooms.len() >= wanted.min(MAX_ROOMS) {
                break;
            }
            if !seen.insert(step.room_id.clone()) {
                // A loop, or the child of several spaces.
                continue;
            }
            self.ask_ahead(&mut asking, &step, &stack).await;
            let found = self.look_at(&viewer, &step, &asking, suggested_only);
            let Some(found) = found.await? else { continue };
            if step.depth < max_depth && !found.children.is_empty() {
                let children = found.children.iter();
                let named = children.map(|child| (&*child.room_id, child.via.as_slice()));
                let told = found.told.as_deref();
                let mut below = self
                    .next_steps(&viewer, named, told, step.depth + 1)
                    .await?;
                below.reverse();
                stack.extend(below);
            }
            let children = found.children.iter();
            rooms.push(HierarchyRoom {
                summary: found.summary,
                children: children.map(|child| dated_event(&child.event)).collect(),
            });
        }
        match rooms.is_empty() {
            true => Err(EngineError::forbidden(
                "there is no such room, or you may not see it",
            )),
            false => Ok(rooms),
        }
    }

    /// Of these rooms, in this order, those that may be shown, or may be found elsewhere. With each, who may tell of it;
    /// `told` is what the server that named them said.
    async fn next_steps<'a>(
        &self,
        viewer: &Viewer,
        rooms: impl IntoIterator<Item = (&'a RoomId, &'a [OwnedServerName])>,
        told: Option<&Told>,
        depth: usize,
    ) -> Result<Vec<Step>> {
        let rooms: Vec<_> = rooms.into_iter().collect();
        let ids: Vec<OwnedRoomId> = rooms.iter().map(|(id, _)| (*id).to_owned()).collect();
        let mut here = self.rooms_here(&ids).await?;
        let steps = rooms.into_iter().filter_map(|(room_id, via)| {
            let known = match here.remove(room_id) {
                Some(here) => viewer
                    .may_see(&here.summary())
                    .then_some(Known::Here(here))?,
                None => Known::Elsewhere(Box::new(self.elsewhere(room_id, via, told)?)),
            };
            Some(Step {
                room_id: room_id.to_owned(),
                depth,
                known,
            })
        });
        Ok(steps.collect())
    }

    /// A room, as far as it may be shown.
    async fn look_at(
        &self,
        viewer: &Viewer,
        step: &Step,
        asking: &Asking,
        suggested_only: bool,
    ) -> Result<Option<Found>> {
        let elsewhere = match &step.known {
            Known::Here(here) => {
                return Ok(Some(Found {
                    summary: here.summary(),
                    children: self.children(&step.room_id, here, suggested_only).await?,
                    told: None,
                }));
            }
            Known::Elsewhere(elsewhere) => elsewhere,
        };
        let told = asking.answer(&step.room_id);
        let summary = match &told {
            Some(told) => Some(told.summary.clone()),
            None => elsewhere.summary.clone(),
        };
        let Some(summary) = summary.filter(|summary| viewer.may_see(summary)) else {
            return Ok(None);
        };
        let children = told.iter().flat_map(|told| &told.children);
        Ok(Some(Found {
            summary,
            children: children
                .filter(|child| child.is_suggested || !suggested_only)
                .cloned()
                .collect(),
            told,
        }))
    }

    /// The children of a room that this server is in, in their order; none if it is no space.
    async fn children(
        &self,
        room_id: &RoomId,
        here: &Here,
        suggested_only: bool,
    ) -> Result<Vec<Child>> {
        if here.shown.summary().room_type != Some(RoomType::Space) {
            return Ok(Vec::new());
        }
        let Some(room) = self.registry.get(room_id).await? else {
            return Ok(Vec::new());
        };
        let state = self.registry.load(&room).await?;
        let events = state.of_type("m.space.child").map(|entry| &entry.event);
        let mut children = in_order(events);
        children.retain(|child| child.is_suggested || !suggested_only);
        Ok(children)
    }
}

/// The children that events name, in their order.
fn in_order<'a>(events: impl Iterator<Item = &'a Arc<StateEvent>>) -> Vec<Child> {
    let mut children: Vec<Child> = events.filter_map(child).collect();
    children.sort_by(|one, other| one.key().cmp(&other.key()));
    children
}

impl Child {
    /// Those with an order come first, in that order; then by time, then by room id.
    fn key(&self) -> (bool, Option<&str>, u64, &RoomId) {
        let order = self.order.as_deref();
        let time = u64::from(self.event.origin_server_ts.get());
        (order.is_none(), order, time, &self.room_id)
    }
}

/// The child that an event names, if it is one.
fn child(event: &Arc<StateEvent>) -> Option<Child> {
    #[derive(Deserialize)]
    struct Content {
        via: Vec<String>,
        #[serde(default)]
        suggested: serde_json::Value,
        #[serde(default)]
        order: serde_json::Value,
    }
    let room_id = OwnedRoomId::try_from(event.state_key.as_ref()).ok()?;
    let content: Content = event.content_as()?;
    let valid = |order: &&str| {
        order.len() <= MAX_ORDER && order.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
    };
    let order = content.order.as_str().filter(valid).map(ToOwned::to_owned);
    let via = content.via.iter();
    (!content.via.is_empty()).then(|| Child {
        room_id,
        order,
        is_suggested: content.suggested == serde_json::Value::Bool(true),
        via: via
            .take(MAX_VIA)
            .filter_map(|server| OwnedServerName::try_from(server.as_str()).ok())
            .collect(),
        event: event.clone(),
    })
}

/// Reads a token, which must be of the same arguments.
fn place(token: &str, request: &HierarchyRequest, max_depth: usize) -> Result<Place> {
    let place = Place::parse(token).ok_or_else(|| EngineError::invalid_param("no such page"))?;
    let same_depth = request.max_depth.is_none() || max_depth == place.max_depth;
    let same_rooms = !request.suggested_only || place.suggested_only;
    if !same_depth || !same_rooms {
        return Err(EngineError::invalid_param(
            "`max_depth` and `suggested_only` can't change from one page to the next",
        ));
    }
    Ok(place)
}

/// How many of the rooms were told before: up to the one that was told last, wherever that stands by now; without it,
/// as many as were told.
fn begin(rooms: &[HierarchyRoom], place: &Place) -> usize {
    let is_last = |room: &HierarchyRoom| room.summary.room_id == place.last;
    let found = rooms.iter().position(is_last);
    found.map_or(place.told, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use ruma::room_id;

    use super::*;

    #[test]
    fn a_place_comes_back_as_it_was_given() {
        for last in [room_id!("!a_b:c"), room_id!("!hash_with_lines")] {
            let place = Place {
                suggested_only: true,
                max_depth: 3,
                told: 50,
                last: last.to_owned(),
            };
            assert_eq!(Place::parse(&place.token()), Some(place));
        }
        for text in ["", "a", "a_1", "a_1_2", "x_1_2_!a:b", "a_1_2_nothing"] {
            assert_eq!(Place::parse(text), None, "{text:?}");
        }
    }
}
