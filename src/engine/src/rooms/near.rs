//! Finding what was said at a time.

use std::sync::Arc;

use parley_storage::events::EventRow;
use ruma::{OwnedEventId, RoomId, ServerName};

use super::{Rooms, history::Direction, timeline::TimelineEvent};
use crate::{EngineError, Result, sessions::Session};

/// Events that are read at once.
const CHUNK: i64 = 50;
/// The most events that are looked through for one that the user may see.
const MAX_SCANNED: i64 = 2_000;

impl Rooms {
    /// The same for another server that is in the room: the event nearest in time, whoever may see what it says. Its id and
    /// time.
    ///
    /// `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the other server isn't in the room, `M_NOT_FOUND` if this one isn't, or there is no such event.
    pub async fn event_near_for_server(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        timestamp: i64,
        direction: Direction,
    ) -> Result<(OwnedEventId, i64)> {
        let (room, _) = self.room_of_server(origin, room_id).await?;
        self.indexer.ready().await?;
        let forward = direction == Direction::Forward;
        let rows: Vec<EventRow> = self
            .database
            .events_near(room.nid(), timestamp, forward, 0, 1)
            .await?;
        let none = || EngineError::not_found("there is no event of that time");
        let row = rows.into_iter().next().ok_or_else(none)?;
        let event = TimelineEvent::from_row(row)?;
        Ok((event.event_id, event.origin_server_ts))
    }

    /// The first event at or after a time, or the last at or before it, of those that the user may see. Of several in
    /// the same millisecond, that which stands first in that direction.
    ///
    /// `GET /rooms/{roomId}/timestamp_to_event`
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user may see nothing of the room, `M_NOT_FOUND` if there is no such event.
    pub async fn event_near(
        &self,
        session: &Session,
        room_id: &RoomId,
        timestamp: i64,
        direction: Direction,
    ) -> Result<Arc<TimelineEvent>> {
        let (room, _, access) = self.readable(room_id, &session.user_id).await?;
        self.indexer.ready().await?;
        let forward = direction == Direction::Forward;
        let mut skip = 0;
        while skip < MAX_SCANNED {
            let rows: Vec<EventRow> = self
                .database
                .events_near(room.nid(), timestamp, forward, skip, CHUNK)
                .await?;
            let is_last = (rows.len() as i64) < CHUNK;
            for row in rows {
                let event = Arc::new(TimelineEvent::from_row(row)?);
                self.look_up_past(&access, std::slice::from_ref(&event), &session.user_id)
                    .await?;
                if access.sees(&event, &session.user_id) {
                    return Ok(event);
                }
            }
            if is_last {
                break;
            }
            skip += CHUNK;
        }
        Err(EngineError::not_found(
            "there is no event of that time that you may see",
        ))
    }
}
