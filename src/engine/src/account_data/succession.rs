//! Handing over what a user keeps of a room to the room that replaces it.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-19>

use ruma::RoomId;
use serde_json::{Map, Value};

use super::{AccountData, Piece};
use crate::{Result, sessions::Session};

/// Which tags a room has.
const TAGS: &str = "m.tag";
/// Which rooms are direct chats, by user.
const DIRECT: &str = "m.direct";

/// A room by its id and its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    /// Its id.
    pub(crate) id: &'a RoomId,
    /// Its number.
    pub(crate) nid: i64,
}

impl AccountData {
    /// Gives a room the tags and push rules that the user has for the one it replaces, and makes it a direct chat if that
    /// was one. What the user has for the new room already stays.
    ///
    /// # Errors
    /// If the database fails, or the user has as much account data as there may be.
    pub(crate) async fn hand_over(
        &self,
        session: &Session,
        from: Named<'_>,
        to: Named<'_>,
    ) -> Result<()> {
        let user_nid = session.user_nid;
        let piece = |room_nid, event_type| Piece {
            user_nid,
            room_nid,
            event_type,
        };
        let tags = self.database.account_data(user_nid, from.nid, TAGS).await?;
        if let Some(tags) = tags {
            let unless_there = |known: Option<&str>| Ok(known.is_none().then(|| tags.clone()));
            self.pieces
                .change(piece(to.nid, TAGS), unless_there)
                .await?;
        }
        let with_the_new = |direct: Option<&str>| {
            let direct = direct.and_then(|direct| with_successor(direct, from.id, to.id));
            direct
                .map(|direct| self.check_size(&direct).map(|()| direct))
                .transpose()
        };
        self.pieces.change(piece(0, DIRECT), with_the_new).await?;
        self.push.hand_over(session, from.id, to.id).await
    }
}

/// The direct chats with the new room wherever the old one is; `None` if that changes nothing.
fn with_successor(direct: &str, from: &RoomId, to: &RoomId) -> Option<String> {
    let mut direct: Map<String, Value> = serde_json::from_str(direct).ok()?;
    let mut changed = false;
    for rooms in direct.values_mut().filter_map(Value::as_array_mut) {
        let has = |room_id: &RoomId| {
            rooms
                .iter()
                .any(|room| room.as_str() == Some(room_id.as_str()))
        };
        if has(from) && !has(to) {
            rooms.push(to.as_str().into());
            changed = true;
        }
    }
    serde_json::to_string(&direct).ok().filter(|_| changed)
}
