//! Account data: what a user's clients keep on the server, for the account or for one of its rooms.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#client-config>

mod pieces;
mod succession;
mod tags;

use std::sync::Arc;

use parley_storage::Database;
pub use parley_storage::user_streams::AccountDataRow;
use ruma::{RoomId, UserId};
use serde_json::value::RawValue;

pub(crate) use self::{
    pieces::{Piece, Pieces},
    succession::Named,
};

use crate::{
    EngineError, Result,
    ignored::{self, IgnoredUsers},
    push::{self, PushRules},
    rooms::{registry::Registry, room::Room},
    sessions::Session,
};

/// The most bytes that a type may have, as for events.
const MAX_TYPE_BYTES: usize = 255;
/// Types that clients may read but not write: others decide what stands there.
const MANAGED: [&str; 2] = ["m.fully_read", push::TYPE];

/// Reads and writes account data.
#[derive(Clone, Debug)]
pub struct AccountData {
    database: Database,
    registry: Arc<Registry>,
    pieces: Pieces,
    push: PushRules,
    /// Bytes of one piece.
    size: u32,
}

impl AccountData {
    pub(crate) fn new(
        database: Database,
        registry: Arc<Registry>,
        pieces: Pieces,
        push: PushRules,
        size: u32,
    ) -> Self {
        Self {
            database,
            registry,
            pieces,
            push,
            size,
        }
    }

    /// Sets a piece, of the account or of a room.
    ///
    /// # Errors
    /// [`EngineError::Managed`] if the server decides what stands there; `M_BAD_JSON` if the content is no object;
    /// `M_INVALID_PARAM` if users would ignore themselves;
    /// `M_TOO_LARGE`, `M_USER_LIMIT_EXCEEDED`; `M_FORBIDDEN` if the user has nothing to do with the room.
    pub async fn set(
        &self,
        session: &Session,
        room_id: Option<&RoomId>,
        event_type: &str,
        content: &RawValue,
    ) -> Result<()> {
        if MANAGED.contains(&event_type) {
            return Err(EngineError::Managed(
                "the server manages this account data; it has its own endpoints",
            ));
        }
        if event_type.is_empty() || event_type.len() > MAX_TYPE_BYTES {
            return Err(EngineError::invalid_param(format!(
                "a type has 1 to {MAX_TYPE_BYTES} bytes"
            )));
        }
        if !content.get().trim_start().starts_with('{') {
            return Err(EngineError::bad_json("account data is a JSON object"));
        }
        let ignores_self = || IgnoredUsers::parse(content.get()).contains(&session.user_id);
        if room_id.is_none() && event_type == ignored::TYPE && ignores_self() {
            return Err(EngineError::invalid_param("you can't ignore yourself"));
        }
        let piece = Piece {
            user_nid: session.user_nid,
            room_nid: self.room_nid(session, room_id).await?,
            event_type,
        };
        self.check_size(content.get())?;
        self.pieces.set(piece, content.get().to_owned()).await
    }

    /// Reads a piece.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is none, `M_FORBIDDEN` if the user has nothing to do with the room.
    pub async fn get(
        &self,
        session: &Session,
        room_id: Option<&RoomId>,
        event_type: &str,
    ) -> Result<Box<RawValue>> {
        if room_id.is_none() && event_type == push::TYPE {
            let content = self
                .push
                .content(&session.user_id, session.user_nid)
                .await?;
            return raw(content.to_string());
        }
        let room_nid = self.room_nid(session, room_id).await?;
        let content = self
            .database
            .account_data(session.user_nid, room_nid, event_type)
            .await?;
        raw(content
            .ok_or_else(|| EngineError::not_found("you have no account data of that type"))?)
    }

    /// What a user has of a room: each piece an object of `type` and `content`.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn of_room(&self, session: &Session, room: &Room) -> Result<Vec<serde_json::Value>> {
        let rows = self.all_of_room(session.user_nid, room, i64::MAX).await?;
        let told = rows.into_iter().filter_map(|row| {
            let content: serde_json::Value = serde_json::from_str(&row.content).ok()?;
            Some(serde_json::json!({ "type": row.event_type, "content": content }))
        });
        Ok(told.collect())
    }

    /// All that a user has of a room and that last changed up to a position of the stream, in the order of that.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn all_of_room(
        &self,
        user_nid: i64,
        room: &Room,
        to: i64,
    ) -> Result<Vec<AccountDataRow>> {
        let rows = self.database.account_data_of_room(user_nid, room.nid(), to);
        Ok(rows.await?)
    }

    /// What changed of a user's in a stretch of the stream, of all rooms, in order. From the beginning (`since` is `None`)
    /// it's all there is, push rules included that the user never changed.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn changed(
        &self,
        user_id: &UserId,
        user_nid: i64,
        since: Option<i64>,
        to: i64,
    ) -> Result<Vec<AccountDataRow>> {
        let after = since.unwrap_or_default();
        let mut rows = self.database.account_data_of(user_nid, after, to).await?;
        let is_rules =
            |row: &&mut AccountDataRow| row.room_nid == 0 && row.event_type == push::TYPE;
        if let Some(row) = rows.iter_mut().find(is_rules) {
            // As the server would answer now: with the rules that it has by now.
            row.content = self.push.content(user_id, user_nid).await?.to_string();
        } else if since.is_none() {
            rows.push(AccountDataRow {
                room_nid: 0,
                event_type: push::TYPE.to_owned(),
                content: self.push.content(user_id, user_nid).await?.to_string(),
                position: 0,
            });
        }
        Ok(rows)
    }

    /// The number of a room that the user has or had to do with; 0 for none.
    async fn room_nid(&self, session: &Session, room_id: Option<&RoomId>) -> Result<i64> {
        let Some(room_id) = room_id else {
            return Ok(0);
        };
        let stranger = || EngineError::forbidden("you were never in this room");
        let room = self.registry.get(room_id).await?.ok_or_else(stranger)?;
        let membership = self
            .database
            .is_forgotten(session.user_nid, room.nid())
            .await?;
        membership.map(|_| room.nid()).ok_or_else(stranger)
    }

    fn check_size(&self, content: &str) -> Result<()> {
        let size = self.size;
        if u32::try_from(content.len()).is_ok_and(|length| length <= size) {
            return Ok(());
        }
        Err(EngineError::too_large(format!(
            "account data may have at most {size} bytes"
        )))
    }
}

fn raw(content: String) -> Result<Box<RawValue>> {
    RawValue::from_string(content)
        .map_err(|error| EngineError::Internal(format!("account data isn't JSON: {error}")))
}
