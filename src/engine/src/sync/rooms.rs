//! Which of a user's rooms there is something to tell of.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt};
use parley_storage::{events::Span, user_streams::AccountDataRow};
use ruma::{api::client::filter::RoomEventFilter, events::room::member::MembershipState};

use super::{
    InvitedRoom, JoinedRoom, LeftRoom, ROOMS_AT_A_TIME, ROOMS_AT_ONCE, Stretch, Sync,
    filter::{event_fits, is_open, room_fits},
};
use crate::{
    Result,
    rooms::{room::Room, timeline::TimelineEvent},
    stream::feeds::{FeedSnapshot, Membership, RoomMarks},
};

/// Events that are looked through at first for those that fit a filter, and at most.
const LOOKED_THROUGH: usize = 20;
const MAX_SCANNED: usize = 1_000;

/// Events of a room, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The events.
    pub events: Vec<Arc<TimelineEvent>>,
    /// Whether there are more between the client's last answer and the first of these.
    pub limited: bool,
    /// Where to read on backward.
    pub prev_batch: i64,
    /// Whether every event since the client's last answer is among them: no filter and no limit took one away.
    pub(super) is_whole: bool,
    /// Whether the state changed otherwise than by its own events; `None` if that isn't known.
    pub(super) settled: Option<bool>,
}

impl Timeline {
    /// That of a room whose events the client doesn't want.
    pub(super) fn without_events(after: i64, to: i64, has_events: bool) -> Self {
        Self {
            events: Vec::new(),
            limited: false,
            prev_batch: if has_events { to } else { after },
            is_whole: !has_events,
            settled: (!has_events).then_some(false),
        }
    }
}

/// The rooms that something changed in, and what.
#[derive(Debug, Default)]
pub(super) struct Changes {
    rooms: Vec<(i64, Membership, RoomMarks)>,
    pub(super) account_data: Vec<AccountDataRow>,
    /// Rooms that the user has joined in this stretch.
    pub(super) newly_joined: Vec<i64>,
}

/// What is told of rooms.
#[derive(Clone, Debug, Default)]
pub struct ToldRooms {
    /// Rooms that the user is joined to.
    pub joined: Vec<JoinedRoom>,
    /// Rooms that the user is invited to.
    pub invited: Vec<InvitedRoom>,
    /// Rooms that the user has knocked on.
    pub knocked: Vec<InvitedRoom>,
    /// Rooms that the user has left.
    pub left: Vec<LeftRoom>,
}

impl ToldRooms {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.joined.is_empty()
            && self.invited.is_empty()
            && self.knocked.is_empty()
            && self.left.is_empty()
    }

    fn add(&mut self, told: Told) {
        match told {
            Told::Joined(room) => self.joined.push(*room),
            Told::Invited(room) => self.invited.push(room),
            Told::Knocked(room) => self.knocked.push(room),
            Told::Left(room) => self.left.push(room),
            Told::Nothing => {}
        }
    }

    fn extend(&mut self, more: Self) {
        self.joined.extend(more.joined);
        self.invited.extend(more.invited);
        self.knocked.extend(more.knocked);
        self.left.extend(more.left);
    }
}

/// A room that is still to be looked at.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    room_nid: i64,
    membership: Membership,
    marks: RoomMarks,
    account_data: Vec<AccountDataRow>,
}

impl Pending {
    /// Answers tell of joined rooms first, of rooms that were left last.
    fn section(&self) -> u8 {
        match self.membership.membership {
            MembershipState::Join => 0,
            MembershipState::Invite => 1,
            MembershipState::Knock => 2,
            _ => 3,
        }
    }
}

/// What is told of one room.
enum Told {
    Joined(Box<JoinedRoom>),
    Invited(InvitedRoom),
    Knocked(InvitedRoom),
    Left(LeftRoom),
    Nothing,
}

/// A room that something may be told of.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) room: Arc<Room>,
    pub(super) membership: Membership,
    pub(super) marks: RoomMarks,
    pub(super) account_data: Vec<AccountDataRow>,
}

impl Sync {
    /// The rooms that may have something to tell.
    pub(super) async fn rooms_changed(
        &self,
        stretch: &Stretch<'_>,
        snapshot: FeedSnapshot,
    ) -> Result<Changes> {
        let marks = self.marks(stretch, &snapshot).await?;
        let account_data = if snapshot_has_account_data(stretch, &snapshot, &marks) {
            let session = stretch.session;
            self.parts
                .account_data
                .changed(
                    &session.user_id,
                    session.user_nid,
                    stretch.since,
                    stretch.to,
                )
                .await?
        } else {
            Vec::new()
        };
        let all = stretch.since.is_none() || stretch.full_state;
        let with_data: HashSet<i64> = account_data.iter().map(|row| row.room_nid).collect();
        let mut changes = Changes {
            account_data,
            ..Changes::default()
        };
        for (room_nid, membership) in snapshot.memberships {
            let marks = marks.get(&room_nid).copied();
            let is_new = membership.position > stretch.after();
            if is_new && membership.membership == MembershipState::Join {
                changes.newly_joined.push(room_nid);
            }
            if all || is_new || marks.is_some() || with_data.contains(&room_nid) {
                changes
                    .rooms
                    .push((room_nid, membership, marks.unwrap_or_default()));
            }
        }
        Ok(changes)
    }

    /// What changed in which room: from the feed, or from storage where the feed doesn't reach back so far.
    async fn marks(
        &self,
        stretch: &Stretch<'_>,
        snapshot: &FeedSnapshot,
    ) -> Result<HashMap<i64, RoomMarks>> {
        let fleeting = stretch.fleeting.unwrap_or(0);
        let mut marks: HashMap<i64, RoomMarks> = stretch
            .feed
            .rooms_changed(stretch.after(), fleeting)
            .into_iter()
            .collect();
        if stretch.since.is_none() || stretch.after() >= snapshot.complete_after {
            return Ok(marks);
        }
        let user_nid = stretch.session.user_nid;
        for row in self.parts.database.memberships_of(user_nid).await? {
            if row.last_position > stretch.after() {
                let mark = marks.entry(row.room_nid).or_default();
                mark.events = mark.events.max(row.last_position);
            }
        }
        let with_receipts = self
            .parts
            .database
            .rooms_with_receipts(user_nid, stretch.after(), stretch.to)
            .await?;
        for room_nid in with_receipts {
            marks.entry(room_nid).or_default().receipts = stretch.to;
        }
        let completed = self
            .parts
            .database
            .partial_rooms_between(stretch.after(), stretch.to)
            .await?;
        for (room_nid, position) in completed {
            let mark = marks.entry(room_nid).or_default();
            mark.events = mark.events.max(position.unwrap_or_default());
        }
        Ok(marks)
    }

    /// The rooms that are looked at, in the order in which answers tell of them.
    pub(super) fn pending(stretch: &Stretch<'_>, changes: Changes) -> VecDeque<Pending> {
        let mut data: HashMap<i64, Vec<AccountDataRow>> = HashMap::new();
        for row in changes.account_data {
            data.entry(row.room_nid).or_default().push(row);
        }
        let filter = &stretch.filter.room;
        let wanted = changes.rooms.into_iter().filter(|(_, membership, _)| {
            room_fits(
                &membership.room_id,
                filter.rooms.as_deref(),
                &filter.not_rooms,
            )
        });
        let mut pending: Vec<_> = wanted
            .map(|(room_nid, membership, marks)| Pending {
                room_nid,
                membership,
                marks,
                account_data: data.remove(&room_nid).unwrap_or_default(),
            })
            .collect();
        pending.sort_by_key(Pending::section);
        pending.into()
    }

    /// Tells of all rooms.
    pub(super) async fn tell_rooms(
        &self,
        stretch: &Stretch<'_>,
        pending: &mut VecDeque<Pending>,
    ) -> Result<ToldRooms> {
        let mut rooms = ToldRooms::default();
        while !pending.is_empty() {
            rooms.extend(self.tell_next(stretch, pending).await?);
        }
        Ok(rooms)
    }

    /// Tells of the next rooms, several at once.
    pub(super) async fn tell_next(
        &self,
        stretch: &Stretch<'_>,
        pending: &mut VecDeque<Pending>,
    ) -> Result<ToldRooms> {
        let count = ROOMS_AT_A_TIME.min(pending.len());
        let batch: Vec<Pending> = pending.drain(..count).collect();
        if stretch.since.is_none() {
            let joined = batch.iter().filter(|room| room.section() == 0);
            let joined: Vec<i64> = joined.map(|room| room.room_nid).collect();
            self.parts
                .unread
                .prepare(stretch.user_id(), stretch.session.user_nid, &joined)
                .await?;
        }
        futures::stream::iter(batch)
            .map(|pending| async move {
                let room = self.parts.rooms.registry().by_nid(pending.room_nid).await?;
                let candidate = Candidate {
                    room,
                    membership: pending.membership,
                    marks: pending.marks,
                    account_data: pending.account_data,
                };
                self.tell(stretch, candidate).await
            })
            .buffered(ROOMS_AT_ONCE)
            .try_fold(ToldRooms::default(), async |mut rooms, told| {
                rooms.add(told);
                Ok(rooms)
            })
            .await
    }

    async fn tell(&self, stretch: &Stretch<'_>, candidate: Candidate) -> Result<Told> {
        let told = match candidate.membership.membership {
            MembershipState::Join if stretch.must_wait(&candidate.room) => Told::Nothing,
            MembershipState::Join => self
                .tell_joined(stretch, &candidate)
                .await?
                .map_or(Told::Nothing, |room| Told::Joined(Box::new(room))),
            MembershipState::Invite => self
                .tell_invited(stretch, &candidate)
                .await?
                .map_or(Told::Nothing, Told::Invited),
            MembershipState::Leave | MembershipState::Ban => self
                .tell_left(stretch, &candidate)
                .await?
                .map_or(Told::Nothing, Told::Left),
            MembershipState::Knock => self
                .tell_knocked(stretch, &candidate)
                .await?
                .map_or(Told::Nothing, Told::Knocked),
            _ => Told::Nothing,
        };
        Ok(told)
    }

    /// The newest events of `after < position <= to` that fit the filter.
    pub(super) async fn timeline(
        &self,
        room: &Room,
        after: i64,
        to: i64,
        filter: &RoomEventFilter,
        sees: impl Fn(&TimelineEvent) -> bool,
    ) -> Result<Timeline> {
        let limit = self.timeline_limit(filter);
        let count = match is_open(filter) {
            true => limit,
            false => limit.max(LOOKED_THROUGH),
        };
        let mut window = self.newest(room, after, to, count).await?;
        let mut kept = keep(&window.0, filter, &sees, limit);
        while !window.1 && kept.len() < limit && window.0.len() < MAX_SCANNED && limit > 0 {
            // The filter took some away: look further back.
            window = self.newest(room, after, to, window.0.len() * 4).await?;
            kept = keep(&window.0, filter, &sees, limit);
        }
        let (window, complete) = window;
        let is_cut = cut_at_gap(&window, &mut kept);
        let first = kept.first().map(|event| event.position);
        let limited = is_cut || !complete || dropped_older(&window, filter, &sees, first);
        let prev_batch = match first {
            Some(position) => position - 1,
            None if limited => to,
            None => after,
        };
        let is_whole = complete && kept.len() == window.len();
        let settled = complete.then(|| window.iter().any(|event| event.settles));
        Ok(Timeline {
            settled,
            events: kept,
            limited,
            prev_batch,
            is_whole,
        })
    }

    /// How many timeline events of a room a client gets.
    fn timeline_limit(&self, filter: &RoomEventFilter) -> usize {
        let settings = &self.parts.settings;
        let wanted = filter
            .limit
            .map_or(settings.default_timeline_limit, |limit| {
                u32::try_from(u64::from(limit)).unwrap_or(u32::MAX)
            });
        usize::try_from(wanted.min(settings.max_timeline_limit)).unwrap_or(usize::MAX)
    }

    /// The newest events of a stretch, oldest first, at most `limit`, and whether these are all.
    async fn newest(
        &self,
        room: &Room,
        after: i64,
        to: i64,
        limit: usize,
    ) -> Result<(Vec<Arc<TimelineEvent>>, bool)> {
        if after >= to {
            return Ok((Vec::new(), true));
        }
        if let Some(recent) = room.recent(after, to, limit) {
            return Ok((recent.events, recent.complete));
        }
        let span = Span {
            room_nid: room.nid(),
            after,
            to,
        };
        let limit_rows = i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1;
        let mut events = self.parts.rooms.newest_events(span, limit_rows).await?;
        let complete = events.len() <= limit;
        events.truncate(limit);
        events.reverse();
        let begins = events.first().map_or(after, |event| event.position - 1);
        room.extend_recent(&events, if complete { after } else { begins });
        Ok((events, complete))
    }
}

/// The newest `limit` of the events that fit, oldest first.
fn keep(
    window: &[Arc<TimelineEvent>],
    filter: &RoomEventFilter,
    sees: &impl Fn(&TimelineEvent) -> bool,
    limit: usize,
) -> Vec<Arc<TimelineEvent>> {
    let mut kept: Vec<_> = window
        .iter()
        .rev()
        .filter(|event| event_fits(filter, event) && sees(event))
        .take(limit)
        .cloned()
        .collect();
    kept.reverse();
    kept
}

/// Where this server lacks some of what happened, takes what came before that away, so that the client asks for the rest.
/// Whether it does.
fn cut_at_gap(window: &[Arc<TimelineEvent>], kept: &mut Vec<Arc<TimelineEvent>>) -> bool {
    let Some(last) = window.iter().rfind(|event| event.after_gap) else {
        return false;
    };
    kept.retain(|event| event.position >= last.position);
    true
}

/// Whether an event that fits lies in the window before the first that was kept.
fn dropped_older(
    window: &[Arc<TimelineEvent>],
    filter: &RoomEventFilter,
    sees: &impl Fn(&TimelineEvent) -> bool,
    first: Option<i64>,
) -> bool {
    window
        .iter()
        .filter(|event| first.is_none_or(|first| event.position < first))
        .any(|event| event_fits(filter, event) && sees(event))
}

/// Whether account data may have changed in the stretch.
fn snapshot_has_account_data(
    stretch: &Stretch<'_>,
    snapshot: &FeedSnapshot,
    marks: &HashMap<i64, RoomMarks>,
) -> bool {
    stretch.since.is_none()
        || stretch.after() < snapshot.complete_after
        || snapshot.account_data > stretch.after()
        || marks
            .values()
            .any(|marks| marks.account_data > stretch.after())
}
