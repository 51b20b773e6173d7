//! Reading the past of a room.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parley_storage::events::Span;
use ruma::{EventId, RoomId, UserId, events::room::member::MembershipState};

use super::{
    Rooms,
    room::Room,
    state::{RoomState, StateEntry},
    timeline::TimelineEvent,
    visibility::Access,
};
use crate::{EngineError, Result, sessions::Session};

/// The most rows that are looked through for one page. Where a filter or the history visibility takes most of them
/// away, the page is short, and the client asks on from its end.
const MAX_SCANNED: i64 = 5_000;

/// Which way to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From new to old.
    Backward,
    /// From old to new.
    Forward,
}

/// What to read.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest {
    /// Where to begin: after this position forward, at it backward. `None` is the newest or the oldest end.
    pub from: Option<i64>,
    /// Where to stop.
    pub to: Option<i64>,
    /// Which way.
    pub direction: Direction,
    /// The most events.
    pub limit: usize,
}

/// An event, what its reader may see of its room, and the room.
pub type FoundEvent = (Arc<TimelineEvent>, Access, Arc<Room>);

/// A page of a room's history.
#[derive(Clone, Debug)]
pub struct Page {
    /// The events, in the order asked for.
    pub events: Vec<Arc<TimelineEvent>>,
    /// Where it began.
    pub start: i64,
    /// Where the next page begins; `None` at the end of what there is.
    pub end: Option<i64>,
    /// What the reader may see, to tell the membership at each event.
    pub access: Access,
    /// The room.
    pub room: Arc<Room>,
    /// Its current state.
    pub state: Arc<RoomState>,
}

impl Rooms {
    /// Reads a page. `fits` is a filter of the client.
    ///
    /// `GET /rooms/{roomId}/messages`
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user may see nothing of the room.
    pub async fn messages(
        &self,
        session: &Session,
        room_id: &RoomId,
        request: PageRequest,
        fits: impl Fn(&TimelineEvent) -> bool,
    ) -> Result<Page> {
        let (room, state, access) = self.readable(room_id, &session.user_id).await?;
        let newest = room.last_position().unwrap_or_default();
        let start = match (request.from, request.direction) {
            (Some(from), _) => from,
            (None, Direction::Backward) => newest,
            (None, Direction::Forward) => self.before_everything(&room).await?,
        };
        let ignored = self.ignored_by(session).await?;
        let fits = |event: &TimelineEvent| {
            !ignored.hide(event) && access.sees(event, &session.user_id) && fits(event)
        };
        let (mut events, end) = self
            .page(&room, &access, request, start, &session.user_id, fits)
            .await?;
        access.veil(&mut events, &session.user_id, &room);
        Ok(Page {
            events,
            start,
            end,
            access,
            room,
            state,
        })
    }

    /// The place before all that is stored of a room.
    async fn before_everything(&self, room: &Room) -> Result<i64> {
        let oldest = self.database.oldest_event(room.nid()).await?;
        Ok(oldest.map_or(0, |row| (row.position - 1).min(0)))
    }

    /// The events of a page, and where the next begins. What this server doesn't have of the past is read from others.
    pub(super) async fn page(
        &self,
        room: &Arc<Room>,
        access: &Access,
        request: PageRequest,
        start: i64,
        user_id: &UserId,
        fits: impl Fn(&TimelineEvent) -> bool,
    ) -> Result<(Vec<Arc<TimelineEvent>>, Option<i64>)> {
        let newest = room.last_position().unwrap_or_default();
        let limit = access.history_limit().min(newest);
        let mut page = Vec::new();
        let mut at = match request.direction {
            Direction::Backward => start.min(limit),
            Direction::Forward => start,
        };
        let mut scanned = 0;
        let mut exhausted = false;
        while page.len() < request.limit && !exhausted && scanned < MAX_SCANNED {
            let wanted = i64::try_from(request.limit - page.len()).unwrap_or(MAX_SCANNED) + 1;
            let rows = self.stretch(room, &request, at, limit, wanted).await?;
            exhausted = (rows.len() as i64) < wanted;
            self.look_up_past(access, &rows, user_id).await?;
            scanned += rows.len() as i64;
            for event in rows {
                if page.len() >= request.limit {
                    // One more than asked for tells that this isn't the end.
                    exhausted = false;
                    break;
                }
                at = match request.direction {
                    Direction::Backward => event.position - 1,
                    Direction::Forward => event.position,
                };
                if fits(&event) {
                    page.push(event);
                }
            }
            let reads_on = request.direction == Direction::Backward && request.to.is_none();
            if exhausted && reads_on && self.read_past(room).await? {
                exhausted = false;
            }
        }
        Ok((page, (!exhausted).then_some(at)))
    }

    async fn stretch(
        &self,
        room: &Room,
        request: &PageRequest,
        at: i64,
        limit: i64,
        count: i64,
    ) -> Result<Vec<Arc<TimelineEvent>>> {
        let rows = match request.direction {
            Direction::Backward => {
                let span = Span {
                    room_nid: room.nid(),
                    after: request.to.unwrap_or(i64::MIN),
                    to: at,
                };
                self.database.newest_events(span, count).await?
            }
            Direction::Forward => {
                let to = request.to.unwrap_or(limit).min(limit);
                let span = Span {
                    room_nid: room.nid(),
                    after: at,
                    to,
                };
                self.database.oldest_events(span, count).await?
            }
        };
        rows.into_iter()
            .map(|row| Ok(Arc::new(TimelineEvent::from_row(row)?)))
            .collect()
    }

    /// One event.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is none that the user may see.
    pub async fn event(
        &self,
        session: &Session,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<FoundEvent> {
        let (room, _, access) =
            self.glimpsed(room_id, &session.user_id)
                .await
                .map_err(|error| match error {
                    EngineError::Refused { .. } => unknown(),
                    error => error,
                })?;
        let row = self
            .database
            .event(event_id)
            .await?
            .filter(|row| row.room_nid == room.nid());
        let mut event = Arc::new(TimelineEvent::from_row(row.ok_or_else(unknown)?)?);
        self.look_up_past(&access, std::slice::from_ref(&event), &session.user_id)
            .await?;
        if !access.sees(&event, &session.user_id) {
            return Err(unknown());
        }
        access.veil([&mut event], &session.user_id, &room);
        Ok((event, access, room))
    }

    /// One event, of whichever room.
    ///
    /// `GET /events/{eventId}`
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is none that the user may see.
    pub async fn event_of_any_room(
        &self,
        session: &Session,
        event_id: &EventId,
    ) -> Result<FoundEvent> {
        let place = self.database.event_place(event_id).await?;
        let (room_nid, _) = place.ok_or_else(unknown)?;
        let room = self.registry.by_nid(room_nid).await?;
        self.event(session, room.id(), event_id).await
    }

    /// The state of a room as the user may know it: the current one for members, that of their leaving for others.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user never was in the room.
    pub async fn state_for(
        &self,
        session: &Session,
        room_id: &RoomId,
    ) -> Result<(Arc<Room>, Arc<RoomState>)> {
        let (room, state, access) = self.readable(room_id, &session.user_id).await?;
        match access.state_limit() {
            Some(i64::MAX) => Ok((room, state)),
            Some(position) => {
                let state = self.state_at(&room, position).await?;
                Ok((room, state))
            }
            None => Err(EngineError::forbidden("you aren't a member of this room")),
        }
    }

    /// The same once it is known who is in the room.
    ///
    /// # Errors
    /// As [`Rooms::state_for`]; `M_UNKNOWN` if that takes longer than two minutes.
    pub async fn whole_state_for(
        &self,
        session: &Session,
        room_id: &RoomId,
    ) -> Result<(Arc<Room>, Arc<RoomState>)> {
        let (room, _) = self.state_for(session, room_id).await?;
        self.need_all_members(&room).await?;
        self.state_for(session, room_id).await
    }

    /// The state of a room at a position of the stream: from memory if it hasn't changed since.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room didn't exist yet.
    pub async fn state_at(&self, room: &Room, position: i64) -> Result<Arc<RoomState>> {
        let state = self.state_if_any_at(room, position).await?;
        state.ok_or_else(|| EngineError::not_found("the room didn't exist yet"))
    }

    /// The same, or `None` if the room didn't exist yet, or this server hadn't come into it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn state_if_any_at(
        &self,
        room: &Room,
        position: i64,
    ) -> Result<Option<Arc<RoomState>>> {
        self.registry.load(room).await?;
        if let Some((state, since)) = room.published()
            && since <= position
        {
            return Ok(Some(state));
        }
        let Some(snapshot) = self.database.snapshot_at(room.nid(), position).await? else {
            return Ok(None);
        };
        let state = self.registry.read_state(room, snapshot, position).await?;
        Ok(Some(Arc::new(state)))
    }

    /// The events at these positions as servers send them to each other, JSON.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn pdus_at(&self, positions: Vec<i64>) -> Result<HashMap<i64, String>> {
        let rows = self.database.events_at(positions).await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.position, row.json))
            .collect())
    }

    /// Events by their positions, in that order; those that don't exist are left out.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn events_at(&self, positions: &[i64]) -> Result<Vec<Arc<TimelineEvent>>> {
        self.events.at(positions).await
    }

    /// State events as clients get them.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn timeline_events(&self, entries: &[StateEntry]) -> Result<Vec<Arc<TimelineEvent>>> {
        let positions: Vec<i64> = entries.iter().map(|entry| entry.position.get()).collect();
        self.events.at(&positions).await
    }

    /// The member events that stood for the senders of `events` at the newest of them, each once.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn senders(
        &self,
        state: &RoomState,
        events: &[Arc<TimelineEvent>],
    ) -> Result<Vec<Arc<TimelineEvent>>> {
        let Some(newest) = events.iter().max_by_key(|event| event.position) else {
            return Ok(Vec::new());
        };
        let mut seen = HashSet::new();
        let mut positions = Vec::new();
        for event in events.iter().filter(|event| seen.insert(&event.sender)) {
            let current = state
                .member(&event.sender)
                .map(|member| member.entry.position.get());
            let position = match current {
                Some(position) if position <= newest.position => Some(position),
                // Changed since.
                _ => {
                    let user_id = event.sender.as_str();
                    self.database
                        .state_event(newest.snapshot, "m.room.member", user_id)
                        .await?
                }
            };
            positions.extend(position);
        }
        if let Some(room) = self.registry.in_memory(newest.room_nid)
            && room.lacks_members()
        {
            let unknown: HashSet<ruma::OwnedUserId> = seen
                .into_iter()
                .filter(|user_id| state.member(user_id).is_none())
                .cloned()
                .collect();
            let claimed = self.claimed_members(&room, events, &unknown).await?;
            positions.extend(claimed.into_iter().map(|(_, position)| position));
        }
        self.events.at(&positions).await
    }

    /// The member events of a room, as it was at a position if one is given.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user may not know them.
    pub async fn members(
        &self,
        session: &Session,
        room_id: &RoomId,
        at: Option<i64>,
        fits: impl Fn(&MembershipState) -> bool,
    ) -> Result<(Arc<Room>, Vec<Arc<TimelineEvent>>)> {
        let room = self.readable(room_id, &session.user_id).await?.0;
        self.need_all_members(&room).await?;
        let (room, now, access) = self.readable(room_id, &session.user_id).await?;
        let forbidden = || EngineError::forbidden("you aren't a member of this room");
        let limit = access.state_limit().ok_or_else(forbidden)?;
        let position = at.unwrap_or(i64::MAX).min(limit);
        let state = match position {
            i64::MAX => now,
            // Before the room was made there was nobody; the first state that can be told is that of the user's
            // own coming.
            position => {
                self.state_at(
                    &room,
                    position.max(access.first_position().unwrap_or(position)),
                )
                .await?
            }
        };
        let entries: Vec<StateEntry> = state
            .members()
            .filter(|(_, member)| fits(&member.membership))
            .map(|(_, member)| member.entry.clone())
            .collect();
        Ok((room, self.timeline_events(&entries).await?))
    }
}

fn unknown() -> EngineError {
    EngineError::not_found("there is no such event, or you may not see it")
}
