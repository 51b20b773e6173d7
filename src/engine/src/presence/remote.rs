//! The presence of users of other servers, as those tell it.

use ruma::{UserId, presence::PresenceState as State};

use super::{MAX_STATUS_BYTES, Presence, users::Heard};
use crate::{Result, stream::nodes::News};

/// What another server says of one of its users.
#[derive(Clone, Debug)]
pub struct RemotePresence {
    /// Whether they are online.
    pub presence: State,
    /// What they say of themselves.
    pub status_message: Option<String>,
    /// How long ago they last did something, in milliseconds.
    pub last_active_ago: i64,
}

impl Presence {
    /// Takes what another server says of a user of it. Of whom this server has never heard, it isn't kept. It holds for half
    /// an hour, unless the other server says it again.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn take(&self, user_id: &UserId, said: RemotePresence) -> Result<()> {
        let shared = &self.shared;
        if !shared.parts.settings.enabled {
            return Ok(());
        }
        let Some(user_nid) = shared.parts.database.user_nid(user_id).await? else {
            return Ok(());
        };
        let now = shared.parts.clock.now_ms();
        let last_active_at = now.saturating_sub(said.last_active_ago.max(0));
        let status_message = said
            .status_message
            .filter(|message| !message.is_empty() && message.len() <= MAX_STATUS_BYTES);
        shared.parts.nodes.tell(News::Presence {
            user_id: user_id.to_owned(),
            user_nid,
            presence: said.presence.clone(),
            status_message: status_message.clone(),
            last_active_at,
        });
        let heard = Heard {
            node: None,
            user_nid,
            says: &said.presence,
            status_message: &status_message,
            last_active_at,
        };
        shared.change(|users| users.heard(user_id, heard, now));
        Ok(())
    }
}
