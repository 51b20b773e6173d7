//! Handing over what a user keeps of a room to the room that replaces it.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-19>

use ruma::RoomId;
use serde_json::{Map, Value, value::RawValue};

use super::AccountData;
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
        let database = &self.database;
        let user_nid = session.user_nid;
        if let Some(tags) = database.account_data(user_nid, from.nid, TAGS).await?
            && database
                .account_data(user_nid, to.nid, TAGS)
                .await?
                .is_none()
        {
            self.write(session, to.nid, TAGS, tags).await?;
        }
        if let Some(direct) = database.account_data(user_nid, 0, DIRECT).await?
            && let Some(direct) = with_successor(&direct, from.id, to.id)
        {
            self.set(session, None, DIRECT, &direct).await?;
        }
        self.push.hand_over(session, from.id, to.id).await
    }
}

/// The direct chats with the new room wherever the old one is; `None` if that changes nothing.
fn with_successor(direct: &str, from: &RoomId, to: &RoomId) -> Option<Box<RawValue>> {
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
    let json = serde_json::to_string(&direct).ok().filter(|_| changed)?;
    RawValue::from_string(json).ok()
}
