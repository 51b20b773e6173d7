//! What other servers are told of a space and its children.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>

use parley_protocol::client_event::dated_event;
use ruma::{OwnedRoomId, RoomId, ServerName, room::RoomSummary};

use super::HierarchyRoom;
use crate::{
    EngineError, Result,
    rooms::{
        Rooms,
        restricted::allowed_rooms,
        summaries::{Here, Viewer, knows_join_rule},
    },
};

/// A space and its children, for another server.
#[derive(Clone, Debug)]
pub struct ServerHierarchy {
    /// The space.
    pub room: HierarchyRoom,
    /// Its children that users of the other server may see.
    pub children: Vec<RoomSummary>,
    /// Its children that are here, but not for them.
    pub inaccessible: Vec<OwnedRoomId>,
}

impl Rooms {
    /// A room, and of its children those that this server has.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such room that users of `server` may see.
    pub async fn hierarchy_for_server(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> Result<ServerHierarchy> {
        let unknown = || EngineError::not_found("there is no such room, or you may not see it");
        let mut found = self.rooms_here(&[room_id.to_owned()]).await?;
        let here = found.remove(room_id).ok_or_else(unknown)?;
        if !self.may_server_see(server, room_id, &here).await? {
            return Err(unknown());
        }
        let named = self.children(room_id, &here, suggested_only).await?;
        let ids: Vec<_> = named.iter().map(|child| child.room_id.clone()).collect();
        let mut below = self.rooms_here(&ids).await?;
        let (mut children, mut inaccessible) = (Vec::new(), Vec::new());
        for id in ids {
            let Some(child) = below.remove(&id) else {
                continue;
            };
            match self.may_server_see(server, &id, &child).await? {
                true => children.push(child.summary()),
                false => inaccessible.push(id),
            }
        }
        Ok(ServerHierarchy {
            room: HierarchyRoom {
                summary: here.summary(),
                children: named
                    .iter()
                    .map(|child| dated_event(&child.event))
                    .collect(),
            },
            children,
            inaccessible,
        })
    }

    /// Whether a room may be shown to some user of a server.
    async fn may_server_see(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        here: &Here,
    ) -> Result<bool> {
        let summary = here.shown.summary();
        let is_open = Viewer::default().may_see(summary);
        if is_open || self.has_or_invites(server, room_id).await? {
            return Ok(true);
        }
        if !knows_join_rule(summary) {
            return Ok(false);
        }
        for allowed in allowed_rooms(&here.shown.join_rule) {
            if self.is_in_room(server, &allowed).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a user of a server is in a room, or invited to it.
    async fn has_or_invites(&self, server: &ServerName, room_id: &RoomId) -> Result<bool> {
        let Some(room) = self.registry.get(room_id).await? else {
            return Ok(false);
        };
        let state = self.registry.load(&room).await?;
        Ok(state.has_server(server) || state.invites_server(server))
    }
}
