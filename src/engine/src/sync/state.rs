//! Which state a client needs to understand a timeline.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parley_storage::{events::Span, state::Places};
use ruma::{OwnedUserId, UserId};

use super::{
    Stretch, Sync, Timeline,
    filter::{event_fits, lazy_members, section_has_room},
};
use crate::{
    Result,
    rooms::{
        room::Room,
        state::{RoomState, StateEntry},
        timeline::TimelineEvent,
    },
};

/// The state of a room as a client gets it along with a timeline: as it is before the timeline, or after it.
///
/// Before the timeline is a state that the timeline's events, put over it, make the state at its end. Where a filter took
/// events away from the timeline, it holds what they would have changed.
pub(super) struct Seen<'a> {
    /// The state where the timeline ends.
    end: &'a RoomState,
    /// Nothing, if the state after the timeline is wanted.
    timeline: HashSet<i64>,
    /// What the first of the timeline's events in each place of the state took the place of.
    replaced: HashMap<(&'a str, &'a str), Option<i64>>,
}

/// What of the state a client is to get.
pub(super) struct Wanted<'a> {
    pub(super) room: &'a Room,
    /// The state where the timeline ends.
    pub(super) end: &'a RoomState,
    pub(super) timeline: &'a Timeline,
    /// Up to where the client knows the room; 0 for all of it.
    pub(super) after: i64,
    /// The users whose member events explain what is told. Beyond, only what changed is told of members where they are
    /// lazily loaded.
    pub(super) needed: HashSet<OwnedUserId>,
}

impl<'a> Seen<'a> {
    /// `whole`: for who knows nothing of the room yet. To them, what came beside the room's head is told as state too: in
    /// the room's graph it stands before others that came earlier, also those that they don't get.
    pub(super) fn new(
        end: &'a RoomState,
        timeline: &'a Timeline,
        after_it: bool,
        whole: bool,
    ) -> Self {
        let mut seen = Self {
            end,
            timeline: HashSet::new(),
            replaced: HashMap::new(),
        };
        if after_it {
            return seen;
        }
        let is_told = |event: &&Arc<TimelineEvent>| event.is_state() && !(whole && event.is_beside);
        for event in timeline.events.iter().filter(is_told) {
            seen.timeline.insert(event.position);
            let key = (
                event.event_type.as_ref(),
                event.state_key.as_deref().unwrap_or_default(),
            );
            seen.replaced
                .entry(key)
                .or_insert_with(|| event.replaced.as_ref().map(|replaced| replaced.position));
        }
        seen
    }

    /// Where the event stands that is seen in place of one of the state at the end.
    fn position(&self, entry: &StateEntry) -> Option<i64> {
        let position = entry.position.get();
        if !self.timeline.contains(&position) {
            return Some(position);
        }
        let event_type = entry.event.event_type.to_string();
        let key = (event_type.as_str(), entry.event.state_key.as_ref());
        self.replaced.get(&key).copied().flatten()
    }

    /// All that are no memberships.
    fn others(&self) -> impl Iterator<Item = i64> {
        self.end.events().filter_map(|entry| self.position(entry))
    }

    /// All memberships, with whose they are.
    fn members(&self) -> impl Iterator<Item = (&OwnedUserId, i64)> {
        let members = self.end.members();
        members.filter_map(|(user_id, member)| Some((user_id, self.position(&member.entry)?)))
    }

    /// The membership of a user.
    fn member(&self, user_id: &UserId) -> Option<i64> {
        self.position(&self.end.member(user_id)?.entry)
    }
}

impl Sync {
    /// The part of the state that is new to a client, as far as its filter lets it through.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#lazy-loading-room-members>
    pub(super) async fn new_state(
        &self,
        stretch: &Stretch<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<Vec<Arc<TimelineEvent>>> {
        let filter = &stretch.filter.room.state;
        if !section_has_room(filter, wanted.room.id()) {
            return Ok(Vec::new());
        }
        let whole = wanted.after == 0;
        let seen = Seen::new(wanted.end, wanted.timeline, stretch.state_after, whole);
        let known = self.known_state(stretch, wanted).await?;
        let is_news = |position: &i64| match &known {
            Some(known) => !known.contains(position),
            None => *position > wanted.after,
        };
        // Nothing changed but what the timeline tells.
        let timeline = wanted.timeline;
        let is_quiet = !whole && !timeline.limited && timeline.is_whole && known.is_none();
        let mut positions = match (is_quiet, stretch.state_after) {
            (true, true) => current(wanted),
            (true, false) => Vec::new(),
            (false, _) => seen.others().filter(is_news).collect(),
        };
        let lazy = lazy_members(filter);
        let mut members: Vec<(OwnedUserId, i64)> = Vec::new();
        // Nobody has missed those that were only now found to be members.
        let members_come = stretch.completes(wanted.room, wanted.after);
        if !is_quiet && (lazy.is_none() || !whole && !members_come) {
            // Also those that a client has who loads members lazily: what changed in the gap must not be lost.
            let news = seen.members().filter(|(_, position)| is_news(position));
            members.extend(news.map(|(user_id, position)| (user_id.clone(), position)));
            positions.extend(members.iter().map(|(_, position)| *position));
        }
        if let Some(redundant) = lazy {
            let (device_nid, room_nid) = (stretch.session.device_nid, wanted.room.nid());
            if !stretch.state_after {
                members.extend(told_by(wanted.timeline));
            }
            self.lazy.missing(device_nid, room_nid, members);
            let needed = wanted.needed.iter();
            let mut needed: Vec<(OwnedUserId, i64)> = needed
                .filter_map(|user_id| Some((user_id.clone(), seen.member(user_id)?)))
                .collect();
            if wanted.room.lacks_members() {
                needed.extend(self.claimed(wanted).await?);
            }
            // Who begins with a room has nobody of it, whatever another answer to the same device, at the same time, has told.
            let all: Vec<i64> = needed.iter().map(|(_, position)| *position).collect();
            let missing = self.lazy.missing(device_nid, room_nid, needed);
            positions.extend(if redundant || whole { all } else { missing });
        }
        positions.sort_unstable();
        positions.dedup();
        let mut events = self.parts.rooms.events_at(&positions).await?;
        events.retain(|event| event_fits(filter, event));
        Ok(events)
    }

    /// The member events of senders who aren't known to be members yet.
    async fn claimed(&self, wanted: &Wanted<'_>) -> Result<Vec<(OwnedUserId, i64)>> {
        let unknown = |user_id: &&OwnedUserId| wanted.end.member(user_id).is_none();
        let users: HashSet<OwnedUserId> = wanted.needed.iter().filter(unknown).cloned().collect();
        let events = &wanted.timeline.events;
        self.parts
            .rooms
            .claimed_members(wanted.room, events, &users)
            .await
    }

    /// Where the events of the state stand that the client knows, where what is new can't be told by its position alone: an
    /// event that brings forks of a room together may bring old events back.
    async fn known_state(
        &self,
        stretch: &Stretch<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<Option<HashSet<i64>>> {
        let span = Span {
            room_nid: wanted.room.nid(),
            after: wanted.after,
            to: stretch.to,
        };
        let database = &self.parts.database;
        let settled = match wanted.timeline.settled {
            _ if wanted.after == 0 => false,
            Some(settled) => settled,
            None => database.has_settled(span).await?,
        };
        if !settled {
            return Ok(None);
        }
        let Some(snapshot) = database.snapshot_at(span.room_nid, span.after).await? else {
            return Ok(None);
        };
        let rows = database.state(snapshot, Places::All).await?;
        Ok(Some(rows.into_iter().map(|row| row.position).collect()))
    }
}

/// The members whom a timeline itself tells of, with where their events stand.
fn told_by(timeline: &Timeline) -> impl Iterator<Item = (OwnedUserId, i64)> {
    let members = timeline.events.iter();
    let members = members.filter(|event| event.event_type.as_ref() == "m.room.member");
    members.filter_map(|event| {
        let user_id = OwnedUserId::try_from(event.state_key.as_deref()?).ok()?;
        Some((user_id, event.position))
    })
}

/// Of a timeline's events, those that are the state at its end.
fn current(wanted: &Wanted<'_>) -> Vec<i64> {
    let events = wanted.timeline.events.iter();
    let is_current = |event: &&Arc<TimelineEvent>| {
        let state_key = event.state_key.as_deref();
        state_key
            .and_then(|state_key| wanted.end.get(&event.event_type, state_key))
            .is_some_and(|entry| entry.position.get() == event.position)
    };
    let current = events.filter(is_current);
    current.map(|event| event.position).collect()
}
