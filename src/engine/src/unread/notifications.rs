//! The list of what a user was notified of.
//!
//! It is made when it is asked for, from the events themselves, so that it is as durable as they are and takes no room: a
//! user is told what their push rules say now of what was sent.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#listing-notifications>

use std::{collections::HashMap, sync::Arc};

use parley_storage::events::EventRow;
use ruma::{OwnedRoomId, events::room::member::MembershipState, push::Action};

use super::{Judge, Subject, Unread};
use crate::{
    EngineError, Result,
    ignored::{IgnoredUsers, Reception},
    receipts::ReadUpTo,
    rooms::{
        Rooms,
        room::Room,
        state::RoomState,
        timeline::{Events, TimelineEvent},
        visibility::Access,
    },
    sessions::Session,
};

/// The most notifications of a page, and how many there are unless the client says.
const MAX_LIMIT: usize = 200;
const DEFAULT_LIMIT: usize = 50;
/// Events that are looked at for a page. Where few of them notify, the page is short, and the client asks on.
const MAX_SCANNED: usize = 5_000;
/// Events that are read at once.
const ROWS: usize = 500;
/// How far back in the stream is looked at first. Where little is found, the next look is farther.
const WINDOW: i64 = 2_000;

/// What of the list is wanted.
#[derive(Clone, Copy, Debug)]
pub struct NotificationsRequest {
    /// Up to which position; `None` for the newest.
    pub to: Option<i64>,
    /// The most of them.
    pub limit: Option<usize>,
    /// Only those that are highlighted.
    pub only_highlights: bool,
}

/// A part of the list, the newest first.
#[derive(Clone, Debug, Default)]
pub struct Notifications {
    /// What the user was notified of.
    pub list: Vec<Notification>,
    /// Where to read on: the position up to which the next part goes. `None` at the end.
    pub next: Option<i64>,
}

/// An event that notifies.
#[derive(Clone, Debug)]
pub struct Notification {
    /// Its room.
    pub room: Arc<Room>,
    /// The event.
    pub event: Arc<TimelineEvent>,
    /// What the rule says that applies to it.
    pub actions: Vec<Action>,
    /// Whether the user has read it.
    pub read: bool,
}

/// What is needed to judge a room's events.
struct Place {
    room: Arc<Room>,
    state: Arc<RoomState>,
    access: Access,
    read: ReadUpTo,
}

/// Whose list it is.
struct Reader<'a> {
    unread: &'a Unread,
    rooms: &'a Rooms,
    session: &'a Session,
    ignored: IgnoredUsers,
    only_highlights: bool,
    /// The rooms that are looked at.
    room_ids: HashMap<i64, OwnedRoomId>,
    /// Where the invitations stand to rooms that this server isn't in, the oldest first. Those are of no timeline.
    invitations: Vec<i64>,
    places: HashMap<i64, Place>,
}

impl Unread {
    /// A part of the list of what a user was notified of in the rooms that they are in or invited to.
    ///
    /// `GET /notifications`
    ///
    /// # Errors
    /// If the database fails.
    pub async fn notifications(
        &self,
        rooms: &Rooms,
        session: &Session,
        request: NotificationsRequest,
    ) -> Result<Notifications> {
        let memberships = self.database.memberships_of(session.user_nid).await?;
        let is_present = |membership: &str| matches!(membership, "join" | "invite");
        let mut newest = 0;
        let mut room_ids = HashMap::new();
        for row in memberships {
            if is_present(&row.membership) && !row.forgotten {
                newest = newest.max(row.last_position);
                room_ids.insert(row.room_nid, row.room_id);
            }
        }
        let from_outside = self.database.remote_invites_of(session.user_nid).await?;
        let invitations: Vec<i64> = from_outside
            .into_iter()
            .filter(|(room_nid, _)| room_ids.contains_key(room_nid))
            .map(|(_, position)| position)
            .collect();
        newest = newest.max(invitations.last().copied().unwrap_or_default());
        let limit = request.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
        let mut reader = Reader {
            unread: self,
            rooms,
            session,
            ignored: rooms.ignored_by(session).await?,
            only_highlights: request.only_highlights,
            room_ids,
            invitations,
            places: HashMap::new(),
        };
        let to = request.to.map_or(newest, |to| to.min(newest));
        reader.list(to, limit).await
    }
}

impl Reader<'_> {
    async fn list(&mut self, mut to: i64, limit: usize) -> Result<Notifications> {
        let mut list = Vec::new();
        let mut window = WINDOW;
        let mut scanned = 0;
        while to > 0 && scanned < MAX_SCANNED {
            let after = to.saturating_sub(window).max(0);
            let rows = self.rows(after, to).await?;
            scanned += rows.len();
            let is_all = rows.len() < ROWS;
            to = match rows.last() {
                Some(last) if !is_all => last.position - 1,
                _ => after,
            };
            if is_all {
                window = window.saturating_mul(4);
            }
            for event in Events::pass(rows)? {
                let position = event.position;
                if let Some(notification) = self.notification(event).await? {
                    if list.len() == limit {
                        return Ok(Notifications {
                            list,
                            next: Some(position),
                        });
                    }
                    list.push(notification);
                }
            }
        }
        Ok(Notifications {
            list,
            next: (to > 0).then_some(to),
        })
    }

    /// The newest events of a stretch that may notify, the newest first, [`ROWS`] at most.
    async fn rows(&self, after: i64, to: i64) -> Result<Vec<EventRow>> {
        let database = &self.unread.database;
        let room_nids = self.room_ids.keys().copied().collect();
        let mut rows = database
            .newest_events_of_rooms(room_nids, after, to, ROWS as i64)
            .await?;
        let first = self.invitations.partition_point(|at| *at <= after);
        let end = self.invitations.partition_point(|at| *at <= to);
        let first = first.max(end.saturating_sub(ROWS));
        let invitations = self.invitations.get(first..end).unwrap_or_default();
        if !invitations.is_empty() {
            rows.extend(database.events_at(invitations.to_vec()).await?);
            rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.position));
            rows.truncate(ROWS);
        }
        Ok(rows)
    }

    async fn notification(&mut self, event: Arc<TimelineEvent>) -> Result<Option<Notification>> {
        let user_id = &self.session.user_id;
        if event.sender == *user_id || event.redacted_by.is_some() || self.ignored.hide(&event) {
            return Ok(None);
        }
        let is_invitation = event.membership() == Some(MembershipState::Invite)
            && event.state_key.as_deref() == Some(user_id.as_str());
        if is_invitation && !self.is_told(&event) {
            return Ok(None);
        }
        let place = match self.places.remove(&event.room_nid) {
            Some(place) => place,
            None => self.place(event.room_nid).await?,
        };
        let place = &*self.places.entry(event.room_nid).or_insert(place);
        let was_there = place.access.membership_at(event.position) == MembershipState::Join;
        if !((was_there && place.access.sees(&event, user_id)) || is_invitation) {
            return Ok(None);
        }
        let subject = Subject {
            room: &place.room,
            state: &place.state,
            user_id,
            user_nid: self.session.user_nid,
            ignored: &self.ignored,
        };
        let facts = self.unread.facts(subject, &event).await;
        let judge = Judge::new(self.unread, subject).await?;
        let actions = judge.actions(&facts).await;
        if !actions.iter().any(Action::should_notify)
            || (self.only_highlights && !actions.iter().any(Action::is_highlight))
        {
            return Ok(None);
        }
        let thread = self.unread.thread(&facts).await?;
        Ok(Some(Notification {
            read: event.position <= place.read.in_thread(&thread),
            room: place.room.clone(),
            event,
            actions,
        }))
    }

    /// Whether the user hears of an invitation. What the server itself has to tell can't be declined.
    fn is_told(&self, invitation: &TimelineEvent) -> bool {
        let sender = &invitation.sender;
        self.ignored.reception(sender) == Reception::Allow || self.rooms.is_server(sender)
    }

    async fn place(&self, room_nid: i64) -> Result<Place> {
        let user_id = &self.session.user_id;
        let room_id = self.room_ids.get(&room_nid);
        let room_id = room_id.ok_or_else(|| EngineError::not_found("that room isn't looked at"))?;
        let registry = self.rooms.registry();
        let room = registry.find(room_id).await?;
        let room = room.ok_or_else(|| EngineError::not_found("that room is gone"))?;
        let state = match room.is_outside() {
            true => Arc::new(RoomState::unknown(room.version())),
            false => registry.load(&room).await?,
        };
        Ok(Place {
            access: self.rooms.access(&room, &state, user_id).await?,
            read: self.unread.receipts.read_up_to(room_nid, user_id).await?,
            room,
            state,
        })
    }
}
