//! Users of other servers, who are found by the names that they have in rooms that this server is in.

use std::{collections::HashMap, sync::Arc};

use parley_protocol::Pdu;
use parley_storage::{Database, events::EventRow, user_directory::Named};
use ruma::{OwnedServerName, OwnedUserId};
use serde::Deserialize;

use super::words_of;
use crate::{Result, rooms::registry::Registry};

/// Users that are listed in one transaction.
const BATCH: usize = 500;

/// Lists them.
#[derive(Debug)]
pub(crate) struct Others {
    database: Database,
    registry: Arc<Registry>,
    server_name: OwnedServerName,
}

/// What a membership says of a user's names.
#[derive(Deserialize)]
struct Content {
    membership: String,
    displayname: Option<String>,
    avatar_url: Option<String>,
}

impl Others {
    pub(crate) fn new(
        database: &Database,
        registry: &Arc<Registry>,
        server_name: &OwnedServerName,
    ) -> Self {
        Self {
            database: database.clone(),
            registry: Arc::clone(registry),
            server_name: server_name.clone(),
        }
    }

    /// Lists who has come into rooms, or is called otherwise there, in a stretch of the stream: by its events, and by the states
    /// of the rooms that this server has come into or knows the members of since.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn take_up(&self, events: &[EventRow], after: i64, to: i64) -> Result<()> {
        let brought = events.iter().filter(|row| row.brought_state());
        let mut rooms: Vec<i64> = brought.map(|row| row.room_nid).collect();
        let partial = self.database.partial_rooms_between(after, to).await?;
        rooms.extend(partial.into_iter().map(|(room_nid, _)| room_nid));
        rooms.sort_unstable();
        rooms.dedup();
        for room_nid in rooms {
            self.list_room(room_nid).await?;
        }
        // Of each, what they are called last.
        let named = events.iter().filter_map(|row| self.named_by(row));
        let named: HashMap<OwnedUserId, Named> = named.collect();
        let named: Vec<Named> = named.into_values().collect();
        for batch in named.chunks(BATCH) {
            self.database.list_others(batch.to_vec(), false).await?;
        }
        Ok(())
    }

    async fn list_room(&self, room_nid: i64) -> Result<()> {
        let room = self.registry.by_nid(room_nid).await?;
        let state = self.registry.load(&room).await?;
        let members = state.joined_members();
        let named = members
            .filter_map(|(user_id, member)| self.named(user_id, member.entry.event.content.get()));
        let named: Vec<Named> = named.collect();
        for batch in named.chunks(BATCH) {
            // What is known already may be newer.
            self.database.list_others(batch.to_vec(), true).await?;
        }
        Ok(())
    }

    fn named_by(&self, row: &EventRow) -> Option<(OwnedUserId, Named)> {
        if !row.json.contains("\"m.room.member\"") {
            return None;
        }
        let event = Pdu::parse(row.event_id.clone(), &row.json).ok()?;
        let fields = &event.fields;
        let user_id = OwnedUserId::try_from(fields.state_key.as_deref()?).ok()?;
        let is_member = fields.event_type.to_string() == "m.room.member";
        let named = is_member.then(|| self.named(&user_id, fields.content.get()))??;
        Some((user_id, named))
    }

    fn named(&self, user_id: &OwnedUserId, content: &str) -> Option<Named> {
        if user_id.server_name() == self.server_name {
            return None;
        }
        let content: Content = serde_json::from_str(content).ok()?;
        if content.membership != "join" {
            return None;
        }
        let json = |text: String| serde_json::Value::String(text).to_string();
        let display_name = content.displayname.map(json);
        Some(Named {
            words: words_of(user_id.as_str(), display_name.as_deref()).ok()?,
            user_id: user_id.to_string(),
            display_name,
            avatar_url: content.avatar_url.map(json),
        })
    }
}
