//! Finding what was said at a time.

use std::sync::Arc;

use parley_storage::events::EventRow;
use ruma::{OwnedEventId, RoomId, ServerName, UserId};

use super::{Rooms, history::Direction, room::Room, timeline::TimelineEvent, visibility::Access};
use crate::{EngineError, Result, clock::timestamp, sessions::Session};

/// Events that are read at once.
const CHUNK: i64 = 50;
/// The most events that are looked through for one that the user may see.
const MAX_SCANNED: i64 = 2_000;

/// Servers that are asked for an event, and stretches of the past that are read up to it.
const MAX_SERVERS: usize = 5;
const MAX_STRETCHES: usize = 20;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
struct Near {
    timestamp: i64,
    forward: bool,
}

/// Who looks.
#[derive(Clone, Copy, Debug)]
enum Viewer<'a> {
    User(&'a UserId, &'a Access),
    Server(&'a ServerName),
}

impl Rooms {
    /// The same as [`Rooms::event_near`] for another server that is in the room: the event nearest in time of those that
    /// one of its users could see. Its id and time.
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
        let wanted = Near {
            timestamp,
            forward: direction == Direction::Forward,
        };
        let found = self.nearest(&room, Viewer::Server(origin), wanted).await?;
        let event = found.ok_or_else(unseen)?;
        Ok((event.event_id.clone(), event.origin_server_ts))
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
        let wanted = Near {
            timestamp,
            forward: direction == Direction::Forward,
        };
        let viewer = Viewer::User(&session.user_id, &access);
        let mut found = self.nearest(&room, viewer, wanted).await?;
        if self.is_told_by_others(&room, wanted).await? {
            found = self.nearest(&room, viewer, wanted).await?;
        }
        found.ok_or_else(unseen)
    }

    /// The nearest of the events that are stored, of those that somebody may see.
    async fn nearest(
        &self,
        room: &Room,
        viewer: Viewer<'_>,
        wanted: Near,
    ) -> Result<Option<Arc<TimelineEvent>>> {
        let mut skip = 0;
        while skip < MAX_SCANNED {
            let rows: Vec<EventRow> = self
                .database
                .events_near(room.nid(), wanted.timestamp, wanted.forward, skip, CHUNK)
                .await?;
            let is_last = (rows.len() as i64) < CHUNK;
            let events = rows
                .into_iter()
                .map(|row| Ok(Arc::new(TimelineEvent::from_row(row)?)))
                .collect::<Result<Vec<_>>>()?;
            let seen = self.first_seen(viewer, &events).await?;
            if seen.is_some() || is_last {
                return Ok(seen);
            }
            skip += CHUNK;
        }
        Ok(None)
    }

    /// The first of some events that somebody may see.
    async fn first_seen(
        &self,
        viewer: Viewer<'_>,
        events: &[Arc<TimelineEvent>],
    ) -> Result<Option<Arc<TimelineEvent>>> {
        match viewer {
            Viewer::User(user_id, access) => {
                for event in events {
                    let only = std::slice::from_ref(event);
                    self.look_up_past(access, only, user_id).await?;
                    if access.sees(event, user_id) {
                        return Ok(Some(Arc::clone(event)));
                    }
                }
                Ok(None)
            }
            Viewer::Server(origin) => {
                let snapshots = events.iter().map(|event| event.snapshot).collect();
                let seen = self.seen_by_server(origin, &snapshots).await?;
                let mut events = events.iter();
                Ok(events.find(|event| seen.contains(&event.snapshot)).cloned())
            }
        }
    }

    /// Where a time is before all that this server has of a room, asks others for the event, and reads the past as far
    /// back as that. Whether something was read.
    async fn is_told_by_others(&self, room: &Arc<Room>, wanted: Near) -> Result<bool> {
        let Some(remote) = self.outside.get() else {
            return Ok(false);
        };
        let oldest = self.database.oldest_event(room.nid()).await?;
        let Some(oldest) = oldest.map(TimelineEvent::from_row).transpose()? else {
            return Ok(false);
        };
        let is_whole = oldest.event_type.as_ref() == "m.room.create";
        if is_whole || wanted.timestamp >= oldest.origin_server_ts {
            return Ok(false);
        }
        let state = self.registry.load(room).await?;
        let direction = match wanted.forward {
            true => ruma::api::Direction::Forward,
            false => ruma::api::Direction::Backward,
        };
        let time = timestamp(wanted.timestamp);
        for server in self.servers_to_ask(room, &state).iter().take(MAX_SERVERS) {
            let answer = remote
                .timestamp_to_event(server, room.id(), time, direction)
                .await;
            let Ok((event_id, _)) = answer else { continue };
            let mut has_read = false;
            for _ in 0..MAX_STRETCHES {
                let is_there = self.database.event(&event_id).await?.is_some();
                if is_there || !self.read_past(room).await? {
                    break;
                }
                has_read = true;
            }
            return Ok(has_read);
        }
        Ok(false)
    }
}

fn unseen() -> EngineError {
    EngineError::not_found("there is no event of that time that you may see")
}
