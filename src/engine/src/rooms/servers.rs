//! The servers in a room.

use ruma::{OwnedServerName, RoomId, ServerName};

use super::Rooms;
use crate::{EngineError, Result};

/// Servers that are named to who wants to join a room.
const MAX_NAMED: usize = 20;

impl Rooms {
    /// Whether a user of a server is joined to a room that this server has.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn is_in_room(&self, server: &ServerName, room_id: &RoomId) -> Result<bool> {
        let Some(room) = self.registry.get(room_id).await? else {
            return Ok(false);
        };
        let state = self.registry.load(&room).await?;
        Ok(room.has_server(&state, server))
    }

    /// Whether what a server tells of a room is heeded: it is in the room, and the room doesn't keep it out.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn heeds_server(&self, server: &ServerName, room_id: &RoomId) -> Result<bool> {
        match self.room_of_server(server, room_id).await {
            Ok(_) => Ok(true),
            Err(EngineError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Servers by which a room can be joined: this one first if it is in the room, then those with the most users in it.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if this server doesn't know the room.
    pub async fn servers_to_join_by(&self, room_id: &RoomId) -> Result<Vec<OwnedServerName>> {
        let room = self.room(room_id).await?;
        let state = self.registry.load(&room).await?;
        let own = self.key.server_name();
        let mut servers = room.servers(&state);
        servers.sort_by_key(|(server, joined)| (server != own, usize::MAX - joined));
        let names = servers.into_iter().map(|(server, _)| server);
        Ok(names.take(MAX_NAMED).collect())
    }
}
