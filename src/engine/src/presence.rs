//! Who is online, and since when not.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#presence>

use std::sync::Arc;

use parley_storage::Database;
use ruma::{UserId, presence::PresenceState as State};
use serde_json::{Value, json};

use crate::{
    EngineError, Result,
    background::Background,
    clock::Clock,
    rooms::registry::Registry,
    sessions::Session,
    settings::PresenceSettings,
    stream::{
        Stream,
        feeds::{Feeds, UserFeed},
        observer::Observer,
    },
};

/// What others may know of a user's presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceState {
    /// Whether they are online.
    pub presence: State,
    /// When they last did something, milliseconds since the epoch.
    pub last_active_at: Option<i64>,
    /// What they say of themselves.
    pub status_message: Option<String>,
}

impl PresenceState {
    /// The content of an `m.presence` event.
    ///
    /// Who is online counts as active until they become unavailable, so that their activity needn't be told.
    pub fn content(&self, now: i64) -> Value {
        let mut content = json!({ "presence": self.presence });
        if let Some(at) = self.last_active_at {
            content["last_active_ago"] = (now - at).max(0).into();
        }
        if self.presence == State::Online {
            content["currently_active"] = true.into();
        }
        if let Some(message) = &self.status_message {
            content["status_msg"] = message.as_str().into();
        }
        content
    }
}

/// That a client is connected: as long as this lives, the user isn't offline.
#[derive(Debug)]
#[must_use = "the user counts as gone when this is dropped"]
pub struct Connected {}

/// What [`Presence`] works with.
#[derive(Debug)]
pub(crate) struct PresenceParts {
    pub(crate) database: Database,
    pub(crate) registry: Arc<Registry>,
    pub(crate) stream: Arc<Stream>,
    pub(crate) feeds: Arc<Feeds>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: PresenceSettings,
}

/// Everyone's presence.
#[derive(Debug)]
pub struct Presence {
    parts: PresenceParts,
}

impl Presence {
    pub(crate) fn start(parts: PresenceParts, _background: &Background) -> Arc<Self> {
        Arc::new(Self { parts })
    }

    /// Notes that a client syncs, with the presence that it asks for. What this returns is to be kept as long as the
    /// request lasts.
    pub fn seen(&self, _session: &Session, _set_presence: &State) -> Connected {
        Connected {}
    }

    /// The presence of somebody.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn get(&self, _user_id: &UserId) -> Result<PresenceState> {
        Ok(PresenceState {
            presence: State::Offline,
            last_active_at: None,
            status_message: None,
        })
    }

    /// The `m.presence` events for a user's /sync: of those whose presence changed after a fleeting count and of those
    /// who are in `newly_joined` rooms; of everyone who isn't offline if the count is `None`. Each user's once.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn changed(
        &self,
        _feed: &UserFeed,
        _after_fleeting: Option<u64>,
        _newly_joined: &[i64],
    ) -> Result<Vec<Value>> {
        Ok(Vec::new())
    }

    /// Sets a user's presence and what they say of themselves.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn set(
        &self,
        _session: &Session,
        _presence: State,
        _status_message: Option<String>,
    ) -> Result<()> {
        Err(EngineError::unrecognized("not yet"))
    }
}

impl Observer for Presence {}
