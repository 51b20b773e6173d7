//! The rooms that two users are in: <https://spec.matrix.org/v1.19/client-server-api/#mutual-rooms>.

use ruma::{OwnedRoomId, RoomId, UserId};

use super::Rooms;
use crate::{EngineError, Result, sessions::Session};

/// Rooms that are told at once.
const PAGE: i64 = 200;

/// Rooms that two users are in.
#[derive(Clone, Debug)]
pub struct MutualRooms {
    /// Some of them, in order of their IDs.
    pub joined: Vec<OwnedRoomId>,
    /// How many there are.
    pub count: u64,
    /// Where the next ones begin, if there are more.
    pub next: Option<String>,
}

impl Rooms {
    /// The rooms that a user and another are both joined to, 200 at most, from where the last answer ended.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if the other is oneself or their ID isn't compliant, or `from` isn't what an answer said.
    pub async fn mutual(
        &self,
        session: &Session,
        other: &UserId,
        from: Option<&str>,
    ) -> Result<MutualRooms> {
        if session.user_id == other {
            return Err(EngineError::invalid_param(
                "you share all rooms with yourself",
            ));
        }
        if other.validate_historical().is_err() {
            return Err(EngineError::invalid_param(format!(
                "{other} is no compliant user ID"
            )));
        }
        // What stands there is the last room that was told.
        if from.is_some_and(|from| <&RoomId>::try_from(from).is_err() || from.contains('\0')) {
            return Err(EngineError::invalid_param(
                "`from` is not what an answer of this server said",
            ));
        }
        let nothing = MutualRooms {
            joined: Vec::new(),
            count: 0,
            next: None,
        };
        let Some(other) = self.database.user_nid(other).await? else {
            return Ok(nothing);
        };
        let (one, after) = (session.user_nid, from.unwrap_or_default());
        let mut rooms = self
            .database
            .mutual_rooms(one, other, after, PAGE + 1)
            .await?;
        let more = i64::try_from(rooms.len()).is_ok_and(|count| count > PAGE);
        if more {
            rooms.pop();
        }
        let count = match (more, from) {
            (false, None) => rooms.len() as u64,
            _ => self.database.mutual_room_count(one, other).await?,
        };
        Ok(MutualRooms {
            count,
            next: rooms.last().filter(|_| more).map(ToString::to_string),
            joined: rooms,
        })
    }
}
