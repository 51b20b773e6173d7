//! Tags: the labels that a user puts on rooms, kept as the account data `m.tag` of each room.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-tagging>

use ruma::RoomId;
use serde_json::{Map, Value, json};

use super::{AccountData, Piece};
use crate::{EngineError, Result, sessions::Session};

const TYPE: &str = "m.tag";
/// The most bytes that a tag's name may have.
const MAX_NAME_BYTES: usize = 255;
/// The most tags that a room may have.
const MAX_TAGS: usize = 200;

impl AccountData {
    /// The tags of a room, with what each says of it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user has nothing to do with the room.
    pub async fn tags(&self, session: &Session, room_id: &RoomId) -> Result<Map<String, Value>> {
        let room_nid = self.room_nid(session, Some(room_id)).await?;
        let content = self
            .database
            .account_data(session.user_nid, room_nid, TYPE)
            .await?;
        Ok(parse(content.as_deref()))
    }

    /// Puts a tag on a room, or changes what it says.
    ///
    /// # Errors
    /// As [`AccountData::tags`]; `M_INVALID_PARAM` if the name is too long, `M_BAD_JSON` if the order is no number,
    /// `M_TOO_LARGE` if the room has too many.
    pub async fn set_tag(
        &self,
        session: &Session,
        room_id: &RoomId,
        name: &str,
        info: Map<String, Value>,
    ) -> Result<()> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(EngineError::invalid_param(format!(
                "a tag has 1 to {MAX_NAME_BYTES} bytes"
            )));
        }
        if info.get("order").is_some_and(|order| !order.is_number()) {
            return Err(EngineError::bad_json("`order` is a number"));
        }
        self.change_tags(session, room_id, |tags| {
            tags.insert(name.to_owned(), info.clone().into());
            if tags.len() > MAX_TAGS {
                return Err(EngineError::too_large(format!(
                    "a room may have at most {MAX_TAGS} tags"
                )));
            }
            Ok(())
        })
        .await
    }

    /// Takes a tag off a room; one that isn't there is off already.
    ///
    /// # Errors
    /// As [`AccountData::tags`].
    pub async fn remove_tag(&self, session: &Session, room_id: &RoomId, name: &str) -> Result<()> {
        self.change_tags(session, room_id, |tags| {
            tags.remove(name);
            Ok(())
        })
        .await
    }

    async fn change_tags(
        &self,
        session: &Session,
        room_id: &RoomId,
        change: impl Fn(&mut Map<String, Value>) -> Result<()>,
    ) -> Result<()> {
        let piece = Piece {
            user_nid: session.user_nid,
            room_nid: self.room_nid(session, Some(room_id)).await?,
            event_type: TYPE,
        };
        let changed = |content: Option<&str>| {
            let before = parse(content);
            let mut tags = before.clone();
            change(&mut tags)?;
            if tags == before {
                return Ok(None);
            }
            let content = json!({ "tags": tags }).to_string();
            self.check_size(&content)?;
            Ok(Some(content))
        };
        self.pieces.change(piece, changed).await
    }
}

/// Clients may write `m.tag` as they like; what isn't an object of tags counts as none.
fn parse(content: Option<&str>) -> Map<String, Value> {
    let tags = content
        .and_then(|content| serde_json::from_str::<Value>(content).ok())
        .and_then(|mut content| content.get_mut("tags").map(Value::take));
    match tags {
        Some(Value::Object(tags)) => tags,
        _ => Map::new(),
    }
}
