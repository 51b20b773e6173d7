//! An event with those around it.

use std::sync::Arc;

use parley_storage::state::Places;
use ruma::{EventId, RoomId};

use super::{
    Rooms,
    history::{Direction, PageRequest},
    room::Room,
    timeline::TimelineEvent,
    visibility::Access,
};
use crate::{Result, sessions::Session};

/// An event with those around it.
#[derive(Clone, Debug)]
pub struct Context {
    /// The event.
    pub event: Arc<TimelineEvent>,
    /// Those before, the newest first.
    pub before: Vec<Arc<TimelineEvent>>,
    /// Those after, the oldest first.
    pub after: Vec<Arc<TimelineEvent>>,
    /// Where to read on backward.
    pub start: i64,
    /// Where to read on forward.
    pub end: i64,
    /// The state after the last of them.
    pub state_at_end: Vec<Arc<TimelineEvent>>,
    /// What the reader may see.
    pub access: Access,
    /// The room.
    pub room: Arc<Room>,
}

/// What to read around an event.
#[derive(Clone, Copy, Debug)]
pub struct ContextRequest {
    /// The most events around it, half of them before it.
    pub limit: usize,
    /// Whether the state holds the members only who sent something of it.
    pub lazy_members: bool,
}

impl Rooms {
    /// An event with those around it, and the state there. `fits` is a filter of the client, for all but the event itself.
    ///
    /// `GET /rooms/{roomId}/context/{eventId}`
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such event that the user may see.
    pub async fn context(
        &self,
        session: &Session,
        room_id: &RoomId,
        event_id: &EventId,
        request: ContextRequest,
        fits: impl Fn(&TimelineEvent) -> bool,
    ) -> Result<Context> {
        let (event, access, room) = self.event(session, room_id, event_id).await?;
        let ignored = self.ignored_by(session).await?;
        let shown = |event: &TimelineEvent| {
            !ignored.hide(event) && access.sees(event, &session.user_id) && fits(event)
        };
        let page = |direction, limit| PageRequest {
            from: None,
            to: None,
            direction,
            limit,
        };
        let backward = page(Direction::Backward, request.limit.div_ceil(2));
        let (mut before, start) = self
            .page(
                &room,
                &access,
                backward,
                event.position - 1,
                &session.user_id,
                shown,
            )
            .await?;
        let forward = page(Direction::Forward, request.limit / 2);
        let (mut after, end) = self
            .page(
                &room,
                &access,
                forward,
                event.position,
                &session.user_id,
                shown,
            )
            .await?;
        access.veil(before.iter_mut().chain(&mut after), &session.user_id, &room);
        let oldest = before.last().unwrap_or(&event).position;
        let last = after.last().unwrap_or(&event).clone();
        let mut around = before.clone();
        around.push(event.clone());
        around.extend_from_slice(&after);
        let mut state_at_end = self.state_there(&room, &last, &around, request).await?;
        state_at_end.retain(|event| fits(event));
        Ok(Context {
            start: start.unwrap_or(oldest - 1),
            end: end.unwrap_or(last.position),
            before,
            after,
            event,
            state_at_end,
            access,
            room,
        })
    }

    async fn state_there(
        &self,
        room: &Room,
        last: &TimelineEvent,
        around: &[Arc<TimelineEvent>],
        request: ContextRequest,
    ) -> Result<Vec<Arc<TimelineEvent>>> {
        let places = match request.lazy_members {
            true => Places::WithoutMembers,
            false => Places::All,
        };
        let rows = self.database.state(last.snapshot, places).await?;
        let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
        let mut state = self.events.at(&positions).await?;
        if request.lazy_members {
            let now = self.registry.load(room).await?;
            state.extend(self.senders(&now, around).await?);
        }
        Ok(state)
    }
}
