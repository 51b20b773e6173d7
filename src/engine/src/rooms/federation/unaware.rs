//! Rooms that this server isn't in any more without having been told.
//!
//! Whom the resolution of a fork puts out isn't told: servers tell what happens to who is in the room, and give what it lacks to
//! nobody else. As long as this server lacks members of the room, it asks for them again and again, and learns by what others say
//! to that. Its users are noted to have left then: the room would stay hidden from clients that wait for its members, and what
//! was said there would reach nobody. They may join it anew.

use std::sync::Arc;

use parley_storage::partial::PartialRow;
use ruma::{EventId, OwnedServerName, OwnedUserId, ServerName, api::error::ErrorKind};

use super::{
    acl::Acl,
    complete::{Attempt, in_turn, shown},
    receive::current_snapshot,
};
use crate::{
    Result,
    remote::RemoteError,
    rooms::{
        ATTEMPTS, Rooms,
        edit::{
            received::{PlaceChange, left},
            rewrite::WholeCurrent,
        },
        room::{Head, Room},
    },
    stream::committer::NotCommitted,
};

/// After how many attempts to learn who is in a room others are believed that this server isn't: in the minutes that these take,
/// servers which hadn't heard of its join have done so.
const SURE_AFTER: i64 = 8;

impl Rooms {
    /// Whether all servers that are asked, that by which this one joined among them, say that this one isn't in the room. One that
    /// isn't reached, or says anything else, leaves it open.
    pub(super) async fn is_put_out_of(
        &self,
        room: &Room,
        row: &PartialRow,
        join: &EventId,
    ) -> Result<bool> {
        let state = self.registry.load(room).await?;
        // Who is kept out is refused as well, and knows.
        if row.attempts < SURE_AFTER || !Acl::of(&state).allows(self.server_name()) {
            return Ok(false);
        }
        let mut servers = in_turn(row, self.server_name());
        let all: Vec<OwnedServerName> = serde_json::from_str(&row.servers).unwrap_or_default();
        let Some(joined_by) = all.into_iter().next() else {
            return Ok(false);
        };
        if !servers.contains(&joined_by) {
            servers.push(joined_by);
        }
        for server in &servers {
            if !self.denies(room, server, join).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a server says that this one isn't in a room.
    async fn denies(&self, room: &Room, server: &ServerName, join: &EventId) -> Result<bool> {
        let remote = self.outside.remote()?;
        let answer = remote.state_ids(server, room.id(), join, true).await;
        Ok(matches!(
            answer,
            Err(RemoteError::Refused {
                kind: ErrorKind::Forbidden,
                ..
            })
        ))
    }

    /// Notes that this server's users aren't in a room.
    pub(super) async fn note_put_out(&self, room: &Arc<Room>) -> Result<Attempt> {
        for _ in 0..ATTEMPTS {
            let Some(head) = self.stored_head(room).await? else {
                continue;
            };
            let current = self.current_without_own(room, &head).await?;
            if self.write_whole(room, &head, current).await? {
                tracing::warn!(room = %room.id(), "others say that this server isn't in a room any more: its users have left");
                return Ok(Attempt::Done);
            }
        }
        Err(NotCommitted::Rebuild.into())
    }

    /// The current state of a room without this server's users.
    async fn current_without_own(&self, room: &Room, head: &Head) -> Result<WholeCurrent> {
        let snapshot = current_snapshot(head);
        let newest = head.newest.get();
        let mut state = self.registry.read_state(room, snapshot, newest).await?;
        let joined = state.joined_members().map(|(user_id, _)| user_id);
        let own: Vec<OwnedUserId> = joined
            .filter(|user_id| self.is_local(user_id))
            .cloned()
            .collect();
        let mut changes = Vec::with_capacity(own.len());
        let mut members = Vec::with_capacity(own.len());
        for user_id in own {
            let event_type = "m.room.member";
            state.remove(event_type, user_id.as_str(), &head.newest, room.version());
            changes.push(PlaceChange::of(event_type, user_id.as_str(), None));
            let membership = left(&user_id, self.server_name());
            members.push((user_id, membership));
        }
        Ok(WholeCurrent {
            shown: shown(&state),
            state: Arc::new(state),
            changes,
            members,
            ends: Vec::new(),
            is_apart: true,
        })
    }
}
