//! The one direct chat of two people.
//!
//! Matrix itself lets two people have any number of direct chats and leaves it to each client to find the one to use.
//! This operation of Parley's own gives the one that is there, or makes it, and gives the same to both, also when
//! several devices ask at once.

use ruma::{OwnedRoomId, UserId, events::room::member::MembershipState};

use super::{
    Rooms,
    create::{Preset, RoomPlan},
};
use crate::{EngineError, Result, sessions::Session};

/// How often a direct chat is looked for and made while others make and leave it.
const ATTEMPTS: usize = 5;

/// A direct chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectChat {
    /// Its room.
    pub room_id: OwnedRoomId,
    /// Whether it was made just now.
    pub created: bool,
}

impl Rooms {
    /// The direct chat of the session's user with another: the one that is there, joined if the other has invited the
    /// user to it, or a new one, to which the other is invited. A chat that one of them has left is no longer theirs.
    /// `may_create` is asked before a new one is made.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for a chat with oneself, `M_NOT_FOUND` if there is no such user, what `may_create` says.
    pub async fn direct_chat(
        &self,
        session: &Session,
        user_id: &UserId,
        may_create: impl Fn() -> Result<()>,
    ) -> Result<DirectChat> {
        if *user_id == session.user_id {
            return Err(EngineError::invalid_param("a direct chat has two people"));
        }
        if !self.is_local(user_id) {
            return Err(EngineError::forbidden(
                "a direct chat of this operation has two people of this server",
            ));
        }
        self.check_invitable(user_id, &session.user_id).await?;
        let other = self
            .database
            .user_nid(user_id)
            .await?
            .ok_or_else(|| EngineError::not_found(format!("there is no user {user_id}")))?;
        for _ in 0..ATTEMPTS {
            if let Some(room_id) = self.database.direct_chat(session.user_nid, other).await? {
                self.enter_direct_chat(session, &room_id).await?;
                return Ok(DirectChat {
                    room_id,
                    created: false,
                });
            }
            may_create()?;
            let plan = RoomPlan {
                preset: Preset::TrustedPrivateChat,
                invite: vec![user_id.to_owned()],
                is_direct: true,
                direct_chat: Some((session.user_nid, other)),
                ..RoomPlan::new()
            };
            match self.create(session, &plan).await {
                Ok(room_id) => {
                    return Ok(DirectChat {
                        room_id,
                        created: true,
                    });
                }
                // Somebody made it at the same moment: it is found the next time round.
                Err(EngineError::Duplicate) => {}
                Err(error) => return Err(error),
            }
        }
        Err(EngineError::Duplicate)
    }

    /// Joins the user if the other one invited them.
    async fn enter_direct_chat(&self, session: &Session, room_id: &ruma::RoomId) -> Result<()> {
        let room = self.room(room_id).await?;
        let state = self.registry.load(&room).await?;
        if state.membership(&session.user_id) == MembershipState::Invite {
            self.join(session, room_id, &[], &Default::default())
                .await?;
        }
        Ok(())
    }
}
