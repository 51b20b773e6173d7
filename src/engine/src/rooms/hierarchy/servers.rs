//! What other servers are told of a space and its children.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>

use std::collections::HashMap;

use ruma::{OwnedRoomId, RoomId, ServerName, room::RoomSummary};

use super::{HierarchyRoom, Step, stripped};
use crate::{
    EngineError, Result,
    rooms::{Rooms, restricted::allowed_rooms, summaries::Viewer},
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
        let mut found = self.known_steps(&[room_id.to_owned()]).await?;
        let step = found.remove(room_id).ok_or_else(unknown)?;
        if !self.may_server_see(server, room_id, &step).await? {
            return Err(unknown());
        }
        let named = self.children(&step, suggested_only).await?;
        let ids: Vec<_> = named.iter().map(|child| child.room_id.clone()).collect();
        let mut below = self.known_steps(&ids).await?;
        let (mut children, mut inaccessible) = (Vec::new(), Vec::new());
        for id in ids {
            let Some(child) = below.remove(&id) else {
                continue;
            };
            match self.may_server_see(server, &id, &child).await? {
                true => children.push(child.shown.with_joined(child.size.joined)),
                false => inaccessible.push(id),
            }
        }
        Ok(ServerHierarchy {
            room: HierarchyRoom {
                summary: step.shown.with_joined(step.size.joined),
                children: named.iter().map(|child| stripped(&child.event)).collect(),
            },
            children,
            inaccessible,
        })
    }

    /// Of these rooms, those that are there.
    async fn known_steps(&self, rooms: &[OwnedRoomId]) -> Result<HashMap<OwnedRoomId, Step>> {
        let sizes = self.database.room_sizes(rooms).await?;
        let nids: Vec<i64> = sizes.iter().map(|size| size.nid).collect();
        let shown = self.summaries.of(&nids).await?;
        let steps = sizes.into_iter().filter_map(|size| {
            let shown = shown.get(&size.nid)?.clone();
            let step = Step {
                size,
                shown,
                depth: 0,
            };
            Some((step.size.room_id.clone(), step))
        });
        Ok(steps.collect())
    }

    /// Whether a room may be shown to some user of a server.
    async fn may_server_see(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        step: &Step,
    ) -> Result<bool> {
        if Viewer::default().may_see(&step.shown) || self.is_in_room(server, room_id).await? {
            return Ok(true);
        }
        for allowed in allowed_rooms(&step.shown.join_rule) {
            if self.is_in_room(server, &allowed).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
