//! Small questions about rooms, for the other services.

use std::sync::Arc;

use parley_storage::events::Span;
use ruma::{UserId, events::room::member::MembershipState};

use super::{Rooms, room::Room, state::membership_of, timeline::TimelineEvent};
use crate::{Result, ignored::IgnoredUsers, sessions::Session};

impl Rooms {
    /// The newest events of a span, newest first, from storage.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn newest_events(&self, span: Span, limit: i64) -> Result<Vec<Arc<TimelineEvent>>> {
        self.events
            .keep(self.database.newest_events(span, limit).await?)
    }

    /// A user's membership at a position of the stream.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn membership_at(
        &self,
        room: &Room,
        user_id: &UserId,
        position: i64,
    ) -> Result<MembershipState> {
        if let Some((state, since)) = room.published()
            && since <= position
        {
            return Ok(state.membership(user_id));
        }
        let none = MembershipState::Leave;
        let Some(snapshot) = self.database.snapshot_at(room.nid(), position).await? else {
            return Ok(none);
        };
        let found = self
            .database
            .state_event(snapshot, "m.room.member", user_id.as_str())
            .await?;
        let Some(found) = found else { return Ok(none) };
        let rows = self.database.events_at(vec![found]).await?;
        let event = rows
            .into_iter()
            .find_map(|row| parley_protocol::StateEvent::parse(row.event_id, &row.json));
        Ok(event.map_or(none, |event| membership_of(&event)))
    }

    /// Whom the session's user ignores.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#ignoring-users>
    ///
    /// # Errors
    /// If the database fails.
    pub async fn ignored_by(&self, session: &Session) -> Result<IgnoredUsers> {
        self.ignored.by(session.user_nid).await
    }
}
