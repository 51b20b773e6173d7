//! Looking into a room without joining it: <https://spec.matrix.org/v1.19/client-server-api/#room-previews>.

use std::{sync::Arc, time::Duration};

use ruma::RoomId;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    Rooms,
    history::{Direction, Page, PageRequest},
    room::Room,
};
use crate::{Result, sessions::Session};

/// Which events of a room are waited for.
#[derive(Clone, Copy, Debug)]
pub struct NewEvents {
    /// After this position; `None` for those that come from now on.
    pub from: Option<i64>,
    /// How many at most.
    pub limit: usize,
    /// How long it's waited for the first.
    pub timeout: Duration,
}

/// New events of a room.
#[derive(Clone, Debug)]
pub struct NewEventsPage {
    /// The events, the oldest first.
    pub page: Page,
    /// Where those after them begin.
    pub next: i64,
}

impl Rooms {
    /// The newest events of a room, the oldest of them first, at most `limit`; `end` is where those before them are.
    ///
    /// `GET /rooms/{roomId}/initialSync`
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user may see nothing of the room.
    pub async fn newest_messages(
        &self,
        session: &Session,
        room_id: &RoomId,
        limit: usize,
    ) -> Result<Page> {
        let request = PageRequest {
            from: None,
            to: None,
            direction: Direction::Backward,
            limit,
        };
        let mut page = self.messages(session, room_id, request, |_| true).await?;
        page.events.reverse();
        Ok(page)
    }

    /// Events of a room after a position; if there are none, waits until there are, the time is up, or `stopping` is cancelled.
    ///
    /// `GET /events`, <https://spec.matrix.org/v1.19/client-server-api/#peeking_get_matrixclientv3events>
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user may see nothing of the room, also while they wait.
    pub async fn new_events(
        &self,
        session: &Session,
        room_id: &RoomId,
        wanted: NewEvents,
        stopping: &CancellationToken,
    ) -> Result<NewEventsPage> {
        let deadline = Instant::now() + wanted.timeout;
        let (room, _, _) = self.readable(room_id, &session.user_id).await?;
        let mut from = wanted.from.unwrap_or_else(|| newest(&room));
        loop {
            let request = PageRequest {
                from: Some(from),
                to: None,
                direction: Direction::Forward,
                limit: wanted.limit,
            };
            let known = newest(&room).max(from);
            let page = self.messages(session, room_id, request, |_| true).await?;
            let is_over = !page.events.is_empty() || stopping.is_cancelled();
            let last = page
                .events
                .last()
                .map_or(known, |event| event.position.max(known));
            let next = page.end.unwrap_or(last);
            if is_over || !self.waits_for_news(&room, next, deadline, stopping).await {
                return Ok(NewEventsPage { page, next });
            }
            from = next;
        }
    }

    /// Waits until a room has events after a position; false if the time is up or the server stops.
    async fn waits_for_news(
        &self,
        room: &Arc<Room>,
        after: i64,
        deadline: Instant,
        stopping: &CancellationToken,
    ) -> bool {
        let news = self.feeds.wait_for(|| newest(room) > after);
        let news = stopping.run_until_cancelled(news);
        matches!(timeout_at(deadline, news).await, Ok(Some(())))
    }
}

fn newest(room: &Room) -> i64 {
    room.last_position().unwrap_or_default()
}
