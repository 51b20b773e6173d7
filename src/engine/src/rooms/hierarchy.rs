//! Exploring spaces.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#discovering-rooms-within-spaces>

mod servers;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parley_protocol::{StateEvent, client_event::stripped_event};
use parley_storage::summaries::RoomSize;
use ruma::{
    OwnedRoomId, RoomId,
    room::{RoomSummary, RoomType},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Rooms,
    summaries::{Shown, Viewer},
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
    size: RoomSize,
    shown: Arc<Shown>,
    depth: usize,
}

/// A child that a space names.
struct Child {
    room_id: OwnedRoomId,
    order: Option<String>,
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
        let mut stack = self.look_at(&viewer, &[root.to_owned()], 0).await?;
        if stack.is_empty() {
            return Err(EngineError::forbidden(
                "there is no such room, or you may not see it",
            ));
        }
        let mut seen = HashSet::new();
        let mut rooms = Vec::new();
        while let Some(step) = stack.pop() {
            if rooms.len() >= wanted.min(MAX_ROOMS) {
                break;
            }
            if !seen.insert(step.size.nid) {
                // A loop, or the child of several spaces.
                continue;
            }
            let children = match step.shown.summary().room_type {
                Some(RoomType::Space) => self.children(&step, suggested_only).await?,
                _ => Vec::new(),
            };
            if step.depth < max_depth && !children.is_empty() {
                let ids: Vec<_> = children.iter().map(|child| child.room_id.clone()).collect();
                let mut below = self.look_at(&viewer, &ids, step.depth + 1).await?;
                below.reverse();
                stack.extend(below);
            }
            rooms.push(HierarchyRoom {
                summary: step.shown.with_joined(step.size.joined),
                children: children
                    .iter()
                    .map(|child| stripped(&child.event))
                    .collect(),
            });
        }
        Ok(rooms)
    }

    /// Of these rooms, in this order, those that are there and may be shown.
    async fn look_at(
        &self,
        viewer: &Viewer,
        rooms: &[OwnedRoomId],
        depth: usize,
    ) -> Result<Vec<Step>> {
        // TODO: rooms of other servers come with federation.
        let sizes = self.database.room_sizes(rooms).await?;
        let nids: Vec<i64> = sizes.iter().map(|size| size.nid).collect();
        let shown = self.summaries.of(&nids).await?;
        let mut sizes: HashMap<_, _> = sizes
            .into_iter()
            .map(|size| (size.room_id.clone(), size))
            .collect();
        let steps = rooms.iter().filter_map(|room_id| {
            let size = sizes.remove(room_id)?;
            let shown = shown.get(&size.nid)?.clone();
            viewer
                .may_see(&shown)
                .then_some(Step { size, shown, depth })
        });
        Ok(steps.collect())
    }

    /// The children of a space, in their order.
    async fn children(&self, step: &Step, suggested_only: bool) -> Result<Vec<Child>> {
        let Some(room) = self.registry.get(&step.size.room_id).await? else {
            return Ok(Vec::new());
        };
        let state = self.registry.load(&room).await?;
        let entries = state.of_type("m.space.child");
        let mut children: Vec<Child> = entries
            .filter_map(|entry| child(&entry.event, suggested_only))
            .collect();
        children.sort_by(|one, other| one.key().cmp(&other.key()));
        Ok(children)
    }
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
fn child(event: &Arc<StateEvent>, suggested_only: bool) -> Option<Child> {
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
    let is_wanted = !content.via.is_empty()
        && (!suggested_only || content.suggested == serde_json::Value::Bool(true));
    let valid = |order: &&str| {
        order.len() <= MAX_ORDER && order.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
    };
    let order = content.order.as_str().filter(valid).map(ToOwned::to_owned);
    is_wanted.then(|| Child {
        room_id,
        order,
        event: event.clone(),
    })
}

/// A stripped event, with its time.
fn stripped(event: &StateEvent) -> Box<RawValue> {
    let stripped = stripped_event(event);
    let time = event.origin_server_ts.get();
    let with_time = stripped
        .get()
        .strip_suffix('}')
        .map(|members| RawValue::from_string(format!("{members},\"origin_server_ts\":{time}}}")));
    match with_time {
        Some(Ok(event)) => event,
        _ => stripped,
    }
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
