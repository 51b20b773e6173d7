//! Rooms of which this server doesn't know yet who is in them.
//!
//! Who joins a large room is told its state without the members, and may read and write at once; the members come in the
//! background ([`complete`](super::federation::complete)). What can't be answered without them waits for that.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>

use std::{collections::HashSet, sync::Arc, time::Duration};

use parley_protocol::{Pdu, StateEvent};
use parley_storage::{commit::Standing, rooms::Partial};
use ruma::{
    OwnedEventId, OwnedServerName, OwnedUserId, ServerName, UserId, events::TimelineEventType,
};
use tokio::sync::watch;

use super::{Rooms, room::Room, state::RoomState, timeline::TimelineEvent};
use crate::{EngineError, Result};

/// How long a request waits at most for the members of a room.
const MAX_WAIT: Duration = Duration::from_secs(120);

/// How much this server knows of who is in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Members {
    /// Everything, since a position of the stream: 0 if it always did.
    All {
        /// The position.
        since: i64,
        /// The servers that are there, if this one learned that it isn't before it knew who they are there by.
        servers: Arc<[OwnedServerName]>,
    },
    /// Who is in the current state, and more; the servers are those that were there when this one came.
    Some {
        /// The servers.
        servers: Arc<[OwnedServerName]>,
    },
}

impl Default for Members {
    fn default() -> Self {
        let servers = Arc::default();
        Self::All { since: 0, servers }
    }
}

impl From<Option<&Partial>> for Members {
    fn from(partial: Option<&Partial>) -> Self {
        match partial {
            None => Self::default(),
            Some(Partial::Since { position, servers }) => Self::All {
                since: *position,
                servers: read_servers(servers),
            },
            Some(Partial::Lacking { servers }) => Self::Some {
                servers: read_servers(servers),
            },
        }
    }
}

fn read_servers(json: &str) -> Arc<[OwnedServerName]> {
    let servers: Vec<OwnedServerName> = serde_json::from_str(json).unwrap_or_default();
    servers.into()
}

/// What a room knows of its members, for those who wait for more.
#[derive(Debug, Default)]
pub(super) struct Knowledge(watch::Sender<Members>);

impl Room {
    pub(crate) fn set_members(&self, members: Members) {
        self.knowledge.0.send_if_modified(|known| {
            let is_new = *known != members;
            *known = members;
            is_new
        });
    }

    /// Whether members are missing, so that who is in no membership that is known may still be in the room.
    pub fn lacks_members(&self) -> bool {
        matches!(*self.knowledge.0.borrow(), Members::Some { .. })
    }

    /// Whether members were missing at a position of the stream, or are.
    pub(crate) fn lacked_members_at(&self, position: i64) -> bool {
        match *self.knowledge.0.borrow() {
            Members::All { since, .. } => since > position,
            Members::Some { .. } => true,
        }
    }

    /// The position of the stream since which no member is missing; 0 if none ever was.
    pub(crate) fn complete_since(&self) -> i64 {
        match *self.knowledge.0.borrow() {
            Members::All { since, .. } => since,
            Members::Some { .. } => i64::MAX,
        }
    }

    /// The servers that were in the room when this one came, as long as it isn't known who they are there by.
    pub(crate) fn told_servers(&self) -> Arc<[OwnedServerName]> {
        match &*self.knowledge.0.borrow() {
            Members::All { servers, .. } | Members::Some { servers } => Arc::clone(servers),
        }
    }

    /// The servers in the room, as far as is known, this one included: those of `state`, with how many of their users are
    /// known to be joined, and those that are there by users who aren't known, with none.
    pub fn servers(&self, state: &RoomState) -> Vec<(OwnedServerName, usize)> {
        let known = state.servers().map(|(server, size)| (server.clone(), size));
        let mut servers: Vec<(OwnedServerName, usize)> = known.collect();
        for server in self.told_servers().iter() {
            if !state.has_server(server) {
                servers.push((server.clone(), 0));
            }
        }
        servers
    }

    /// Whether a user is joined; also one of whom nothing is known, as long as members of their server are missing.
    pub fn may_have(&self, state: &RoomState, user_id: &UserId) -> bool {
        let is_unknown = || {
            state.member(user_id).is_none() && {
                let servers = self.told_servers();
                servers.iter().any(|told| told == user_id.server_name())
            }
        };
        state.is_joined(user_id) || is_unknown()
    }

    /// Whether a server is in the room, as far as is known.
    pub(super) fn has_server(&self, state: &RoomState, server: &ServerName) -> bool {
        state.has_server(server) || self.told_servers().iter().any(|told| told == server)
    }

    async fn no_longer_lacks_members(&self) {
        let mut members = self.knowledge.0.subscribe();
        // The sender is the room itself, which is here.
        let _ = members
            .wait_for(|members| matches!(members, Members::All { .. }))
            .await;
    }
}

impl Rooms {
    /// Waits until it is known who is in a room, as long as this server is.
    ///
    /// # Errors
    /// `M_UNKNOWN` if that takes longer than two minutes, or the server stops.
    pub async fn need_all_members(&self, room: &Room) -> Result<()> {
        if !room.lacks_members() || !self.is_here(room).await? {
            return Ok(());
        }
        let complete = tokio::time::timeout(MAX_WAIT, room.no_longer_lacks_members());
        match self
            .background
            .stopping()
            .run_until_cancelled(complete)
            .await
        {
            Some(Ok(())) => Ok(()),
            _ => Err(EngineError::unknown(
                "this server is still being told who is in the room; try again later",
            )),
        }
    }

    /// The member events of users that are among those that allow events which they have sent, by their numbers: what is
    /// believed as long as not all members are known.
    pub(crate) async fn claimed_members(
        &self,
        room: &Room,
        events: &[Arc<TimelineEvent>],
        users: &HashSet<OwnedUserId>,
    ) -> Result<Vec<(OwnedUserId, i64)>> {
        // For each user the newest event is enough.
        let mut seen = HashSet::new();
        let newest = events.iter().rev();
        let positions: Vec<i64> = newest
            .filter(|event| users.contains(&event.sender) && seen.insert(&event.sender))
            .map(|event| event.position)
            .collect();
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.database.events_at(positions).await?;
        let pdus = rows
            .into_iter()
            .filter_map(|row| Pdu::parse(row.event_id, &row.json).ok());
        let allowing: Vec<OwnedEventId> = pdus.flat_map(|pdu| pdu.fields.auth_events).collect();
        let known = self.database.known_events(&allowing).await?;
        let members = known.into_values().filter_map(|event| {
            let state_event = StateEvent::parse(event.event_id, &event.json)?;
            let user_id = OwnedUserId::try_from(state_event.state_key.as_ref()).ok()?;
            let is_wanted = event.room_nid == room.nid()
                && event.standing != Standing::Rejected
                && state_event.event_type == TimelineEventType::RoomMember
                && users.contains(&user_id);
            is_wanted.then_some((user_id, event.position))
        });
        Ok(members.collect())
    }

    /// Waits until it is known whether a user is in a room.
    ///
    /// # Errors
    /// As [`Rooms::need_all_members`].
    pub async fn need_member(&self, room: &Room, user_id: &UserId) -> Result<()> {
        if !room.lacks_members() || self.registry.load(room).await?.member(user_id).is_some() {
            return Ok(());
        }
        self.need_all_members(room).await
    }
}
