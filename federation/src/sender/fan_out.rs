//! Whom an event concerns.

use std::{collections::HashMap, sync::Arc};

use parley_engine::EngineError;
use parley_storage::{StorageError, events::EventRow};
use ruma::{OwnedServerName, OwnedUserId, ServerName, events::room::member::MembershipState};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Inner,
    queue::{Queue, WaitingPdu},
};

/// How soon a server is tried again that spoke while an attempt failed, in milliseconds.
const SOON_MS: i64 = 1_000;

/// What matters of an event.
#[derive(Debug, Deserialize)]
struct Facts {
    sender: OwnedUserId,
    #[serde(rename = "type")]
    event_type: String,
    state_key: Option<String>,
    content: Content,
}

#[derive(Debug, Default, Deserialize)]
struct Content {
    #[serde(default)]
    membership: serde_json::Value,
}

impl Facts {
    /// The server of somebody who is put out of the room, or whose invitation is taken back: it is to know, although it
    /// may no longer be in the room.
    fn put_out(&self) -> Option<OwnedServerName> {
        let is_out = self.event_type == "m.room.member"
            && [MembershipState::Leave, MembershipState::Ban]
                .iter()
                .any(|membership| self.content.membership == membership.as_str());
        let user_id = OwnedUserId::try_from(self.state_key.as_deref()?).ok()?;
        is_out.then(|| user_id.server_name().to_owned())
    }
}

impl Inner {
    /// Sorts events into the queues of those that they concern: events of users of this server, and those that this server
    /// has taken for the others in their rooms.
    pub(super) async fn fan_out(self: &Arc<Self>, rows: &[EventRow]) -> Result<(), StorageError> {
        let events: Vec<(&EventRow, Facts)> = rows
            .iter()
            .filter_map(|row| Some((row, serde_json::from_str(&row.json).ok()?)))
            .collect();
        let is_own = |facts: &Facts| facts.sender.server_name() == self.client.own_name();
        // A join by which this server came into a room is told by the server that let it in, too.
        let members = events
            .iter()
            .filter(|(_, facts)| facts.event_type == "m.room.member")
            .map(|(row, _)| row.position);
        let taken = self.taken_from(members.collect()).await?;
        for (row, facts) in &events {
            let from = taken.get(&row.position);
            // Own ones that another server was given, it tells.
            let is_to_send = match is_own(facts) {
                true => from.is_none() && !row.brought_state(),
                false => from.is_some(),
            };
            if is_to_send {
                self.queue_event(row, facts, from.map(AsRef::as_ref))
                    .await?;
            }
        }
        Ok(())
    }

    /// From which servers those of these events were taken that are to be passed on, or to which they were given.
    async fn taken_from(
        &self,
        positions: Vec<i64>,
    ) -> Result<HashMap<i64, OwnedServerName>, StorageError> {
        if positions.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = self.database.passed_on(positions).await?;
        let rows = rows
            .into_iter()
            .filter_map(|(position, origin)| Some((position, origin.try_into().ok()?)));
        Ok(rows.collect())
    }

    async fn queue_event(
        self: &Arc<Self>,
        row: &EventRow,
        facts: &Facts,
        but: Option<&ServerName>,
    ) -> Result<(), StorageError> {
        let put_out = facts.put_out();
        let mut servers = self.servers_in(row.room_nid).await;
        if let Some(server) = &put_out
            && !servers.contains(server)
        {
            servers.push(server.clone());
        }
        let is_other = |server: &OwnedServerName| {
            server != self.client.own_name() && but != Some(&**server) && self.policy.allows(server)
        };
        servers.retain(is_other);
        if servers.is_empty() {
            return Ok(());
        }
        let Ok(json) = RawValue::from_string(row.json.clone()) else {
            return Ok(());
        };
        let pdu = WaitingPdu {
            position: row.position,
            room_nid: row.room_nid,
            json: json.into(),
        };
        for server in servers {
            let paused = self.client.destinations().pause(&server).await > 0;
            let must = put_out.as_ref() == Some(&server);
            match paused {
                true => {
                    self.queues()
                        .lacks(&server, row.room_nid, row.position, must);
                    self.schedule(&server).await;
                }
                false => {
                    self.queues().push(&server, pdu.clone());
                    self.deliver_to(&server);
                }
            }
        }
        Ok(())
    }

    /// The servers in a room, as it is now.
    pub(super) async fn servers_in(&self, room_nid: i64) -> Vec<OwnedServerName> {
        let registry = self.engine.rooms().registry();
        let state = async {
            let room = registry.by_nid(room_nid).await?;
            let state = registry.load(&room).await?;
            Ok::<_, EngineError>(room.servers(&state))
        };
        match state.await {
            Ok(servers) => servers.into_iter().map(|(server, _)| server).collect(),
            Err(error) => {
                tracing::warn!(%error, "a room can't be read, whose events are to be sent");
                Vec::new()
            }
        }
    }

    /// Sees to it that a server is tried again when its time has come.
    pub(super) async fn schedule(&self, server: &ServerName) {
        let entry = self.client.destinations().get(server).await;
        let retry_at = entry.health().retry_at;
        // Without a time, the server has spoken, or an administrator has, while the attempt that failed was under way: what
        // came of that was that somebody is at it already, so it must not be the end of it.
        let at = retry_at.unwrap_or_else(|| self.now() + SOON_MS);
        self.queues().retries.insert((at, server.to_owned()));
    }

    /// Delivers what a server lacks, now or when it may be tried again.
    pub(super) async fn begin(self: &Arc<Self>, server: &ServerName) {
        match self.client.destinations().pause(server).await {
            0 => self.deliver_to(server),
            _ => self.schedule(server).await,
        }
    }

    /// Has somebody deliver what waits for a server, unless somebody does.
    pub(super) fn deliver_to(self: &Arc<Self>, server: &ServerName) {
        if self.stopping.is_cancelled() {
            return;
        }
        {
            let mut queues = self.queues();
            let queue: &mut Queue = queues.of(server);
            if queue.busy {
                return;
            }
            queue.busy = true;
        }
        let delivery = Arc::clone(self).deliver(server.to_owned());
        self.tasks.spawn(delivery);
    }
}
