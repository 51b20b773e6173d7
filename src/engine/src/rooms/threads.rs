//! The threads of a room.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#querying-threads-in-a-room>

use std::sync::Arc;

use parley_storage::relations::ThreadQuery;
use ruma::RoomId;

use super::{Rooms, room::Room, timeline::TimelineEvent, visibility::Access};
use crate::{Result, sessions::Session};

/// The most rows that are looked through for a page.
const MAX_SCANNED: usize = 2_000;

/// Which threads are asked for.
#[derive(Clone, Copy, Debug)]
pub struct ThreadsRequest {
    /// Those only that the user has taken part in.
    pub participated: bool,
    /// Those only in which nothing was said after this position.
    pub from: Option<i64>,
    /// The most.
    pub limit: usize,
}

/// A page of threads.
#[derive(Clone, Debug)]
pub struct ThreadsPage {
    /// Their roots, that of the thread in which something was said last first.
    pub roots: Vec<Arc<TimelineEvent>>,
    /// Where the next page begins; `None` at the end.
    pub end: Option<i64>,
    /// What the reader may see.
    pub access: Access,
    /// The room.
    pub room: Arc<Room>,
}

impl Rooms {
    /// The threads of a room. A root of somebody whom the user ignores is redacted.
    ///
    /// `GET /rooms/{roomId}/threads`
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user may see nothing of the room.
    pub async fn threads_of(
        &self,
        session: &Session,
        room_id: &RoomId,
        request: ThreadsRequest,
    ) -> Result<ThreadsPage> {
        let (room, _, access) = self.readable(room_id, &session.user_id).await?;
        let ignored = self.ignored_by(session).await?;
        let mut at = request.from.unwrap_or(i64::MAX);
        let (mut roots, mut end, mut scanned) = (Vec::new(), None, 0);
        while roots.len() < request.limit && scanned < MAX_SCANNED {
            let wanted = request.limit - roots.len();
            let rows = self
                .database
                .thread_roots(ThreadQuery {
                    room_nid: room.nid(),
                    up_to: at,
                    participant: request.participated.then_some(session.user_nid),
                    // One more than asked for tells that this isn't the end.
                    limit: i64::try_from(wanted).unwrap_or(i64::MAX - 1) + 1,
                })
                .await?;
            scanned += rows.len();
            let more = rows.len() > wanted;
            let page = rows.get(..wanted.min(rows.len())).unwrap_or_default();
            let positions: Vec<i64> = page.iter().map(|(root, _)| *root).collect();
            let events = self.events.at(&positions).await?;
            self.look_up_past(&access, &events, &session.user_id)
                .await?;
            let shown = events
                .into_iter()
                .filter(|event| access.sees(event, &session.user_id));
            roots.extend(shown.map(|event| match ignored.hide(&event) {
                // What others said in the thread is to be found.
                true => Arc::new(event.redacted(room.version())),
                false => event,
            }));
            end = page.last().filter(|_| more).map(|(_, newest)| newest - 1);
            match end {
                Some(next) => at = next,
                None => break,
            }
        }
        access.veil(&mut roots, &session.user_id, &room);
        Ok(ThreadsPage {
            roots,
            end,
            access,
            room,
        })
    }
}
