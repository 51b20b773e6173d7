//! Rooms that span servers.
//!
//! What other servers send is checked here and put into the rooms ([`receive`]), after it was stored ([`inbox`]). Where it
//! is built on events that this server doesn't have, those are asked for ([`missing`]); where the graph of a room forks,
//! its state is resolved ([`resolve`]). The other direction is what other servers are told ([`serve`]), and how this
//! server's users get into rooms that it isn't in ([`join`]). Where it came into one without its members, they are asked for
//! afterwards ([`complete`]).
//!
//! <https://spec.matrix.org/v1.19/server-server-api/>

pub(crate) mod complete;
pub mod inbox;
pub mod invite;
pub mod join;
pub mod serve;

pub(in crate::rooms) mod history;

mod acl;
mod auth_graph;
mod expected;
mod gaps;
pub(crate) mod lacking;
mod missing;
mod put_out;
mod receive;
mod recheck;
mod redact;
pub(crate) mod resolve;
mod shown;
pub(crate) mod turns;
mod unaware;
mod unheard;
mod verify;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ruma::{OwnedServerName, RoomId, ServerName};

use self::acl::{Acl, check_acl};
use super::{Rooms, room::Room, state::RoomState};
use crate::{EngineError, Result};

impl Rooms {
    /// This server's name.
    pub(crate) fn server_name(&self) -> &ServerName {
        self.key.server_name()
    }

    /// Whether this server has users in a room.
    pub(super) fn is_in(&self, state: &RoomState) -> bool {
        state.has_server(self.server_name())
    }

    /// Whether this server has users in a room, of which it may know just that its users are invited to it.
    pub(super) async fn is_here(&self, room: &Room) -> Result<bool> {
        Ok(self.state_if_here(room).await?.is_some())
    }

    /// The state of a room, if this server has users in it.
    async fn state_if_here(&self, room: &Room) -> Result<Option<Arc<RoomState>>> {
        if room.is_outside() {
            return Ok(None);
        }
        let state = self.registry.load(room).await?;
        Ok(self.is_in(&state).then_some(state))
    }

    /// A room that this server is in, for another server that its rules let speak with it.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if this server isn't in it, `M_FORBIDDEN` if the room keeps the other server out.
    pub(super) async fn room_for_server(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
    ) -> Result<(Arc<Room>, Arc<RoomState>)> {
        let room = self.room(room_id).await?;
        let state = self.registry.load(&room).await?;
        if !self.is_in(&state) {
            return Err(EngineError::not_found("this server isn't in that room"));
        }
        check_acl(&state, origin)?;
        Ok((room, state))
    }

    /// The same for a server that has to be in the room.
    ///
    /// # Errors
    /// As [`Rooms::room_for_server`]; `M_FORBIDDEN` if the other isn't in it.
    pub(super) async fn room_of_server(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
    ) -> Result<(Arc<Room>, Arc<RoomState>)> {
        let (room, state) = self.room_for_server(origin, room_id).await?;
        if !room.has_server(&state, origin) {
            return Err(EngineError::forbidden("your server isn't in that room"));
        }
        Ok((room, state))
    }

    /// The servers that a room can be reached by, this one aside, without those that it keeps out: the largest first.
    pub(super) fn servers_to_ask(&self, room: &Room, state: &RoomState) -> Vec<OwnedServerName> {
        let acl = Acl::of(state);
        let mut servers: Vec<(usize, OwnedServerName)> = room
            .servers(state)
            .into_iter()
            .filter(|(server, _)| server != self.server_name() && acl.allows(server))
            .map(|(server, size)| (size, server))
            .collect();
        servers.sort_unstable_by(|one, other| other.cmp(one));
        servers.into_iter().map(|(_, server)| server).collect()
    }
}
