//! What users keep of a room goes over to the one that replaces it.

use std::sync::Arc;

use ruma::{OwnedRoomId, UserId, events::room::member::MembershipState};
use serde::Deserialize;

use super::{Rooms, room::Room, state::RoomState};
use crate::{Result, account_data::Named, sessions::Session};

impl RoomState {
    /// The room that this one replaces, by what its create event says.
    pub fn predecessor(&self) -> Option<OwnedRoomId> {
        #[derive(Deserialize)]
        struct Content {
            predecessor: Predecessor,
        }
        #[derive(Deserialize)]
        struct Predecessor {
            room_id: OwnedRoomId,
        }
        let create = &self.get("m.room.create", "")?.event;
        let content: Content = create.content_as()?;
        Some(content.predecessor.room_id)
    }

    /// The room that replaces this one, by what its tombstone says.
    pub fn successor(&self) -> Option<OwnedRoomId> {
        self.text("m.room.tombstone", "replacement_room")?
            .try_into()
            .ok()
    }
}

impl Rooms {
    /// Hands over what somebody kept of the room that the one they have joined replaces: if both rooms say that it does,
    /// and they were in the other. What fails here is no reason not to join.
    pub(super) async fn follow_predecessor(&self, session: &Session, room: &Arc<Room>) {
        if let Err(error) = self.follow(session, room).await {
            tracing::warn!(%error, room = %room.id(), "settings weren't taken over from an upgraded room");
        }
    }

    async fn follow(&self, session: &Session, room: &Arc<Room>) -> Result<()> {
        let state = self.registry.load(room).await?;
        let Some(predecessor) = state.predecessor() else {
            return Ok(());
        };
        let Some(old) = self.registry.get(&predecessor).await? else {
            return Ok(());
        };
        let old_state = self.registry.load(&old).await?;
        if old_state.successor().as_deref() != Some(room.id()) {
            return Ok(());
        }
        self.hand_over(session, &old, &old_state, room).await
    }

    /// Hands over what they kept of a room to those of its members who are in the room that its new tombstone names.
    pub(super) async fn follow_tombstone(&self, old: &Arc<Room>) {
        if let Err(error) = self.move_members(old).await {
            tracing::warn!(%error, room = %old.id(), "settings weren't taken over from an upgraded room");
        }
    }

    async fn move_members(&self, old: &Arc<Room>) -> Result<()> {
        let old_state = self.registry.load(old).await?;
        let Some(successor) = old_state.successor() else {
            return Ok(());
        };
        let Some(new) = self.registry.get(&successor).await? else {
            return Ok(());
        };
        let state = self.registry.load(&new).await?;
        if state.predecessor().as_deref() != Some(old.id()) {
            return Ok(());
        }
        for (user_id, _) in state.joined_members() {
            if user_id.server_name() != self.key.server_name() {
                continue;
            }
            if let Some(user_nid) = self.database.user_nid(user_id).await? {
                let session = Session::of_server(user_nid, user_id);
                self.hand_over(&session, old, &old_state, &new).await?;
            }
        }
        Ok(())
    }

    /// Hands over what one user kept, who has to have been in the old room.
    pub(super) async fn hand_over(
        &self,
        session: &Session,
        old: &Room,
        old_state: &RoomState,
        new: &Room,
    ) -> Result<()> {
        if !was_inside(old_state, &session.user_id) {
            return Ok(());
        }
        let from = Named {
            id: old.id(),
            nid: old.nid(),
        };
        let to = Named {
            id: new.id(),
            nid: new.nid(),
        };
        self.account_data.hand_over(session, from, to).await
    }
}

/// Whether somebody is or was in a room.
fn was_inside(state: &RoomState, user_id: &UserId) -> bool {
    let member = state.member(user_id);
    member.is_some_and(|member| {
        matches!(
            member.membership,
            MembershipState::Join | MembershipState::Leave
        )
    })
}
