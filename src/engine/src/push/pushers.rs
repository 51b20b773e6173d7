//! Where the notifications of a user are pushed to.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3pushersset>

use std::sync::Arc;

use parley_storage::{Database, pushers::NewPusher};
use ruma::api::client::push::{Pusher, PusherIds, PusherKind};
use serde_json::value::RawValue;
use url::Url;

use crate::{EngineError, Result, clock::Clock, sessions::Session, settings::AccountLimits};

/// The most bytes of a pusher as JSON.
const MAX_BYTES: usize = 16 * 1024;
const MAX_KEY_BYTES: usize = 512;
const MAX_APP_BYTES: usize = 64;
/// Where push gateways listen.
const PATH: &str = "/_matrix/push/v1/notify";

/// Reads and sets pushers.
#[derive(Clone, Debug)]
pub struct Pushers {
    database: Database,
    clock: Arc<dyn Clock>,
    limits: AccountLimits,
}

impl Pushers {
    pub(crate) fn new(database: Database, clock: Arc<dyn Clock>, limits: AccountLimits) -> Self {
        Self {
            database,
            clock,
            limits,
        }
    }

    /// The user's pushers, JSON, the oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list(&self, session: &Session) -> Result<Vec<Box<RawValue>>> {
        let pushers = self.database.pushers_of(session.user_nid).await?;
        pushers
            .into_iter()
            .map(|content| {
                RawValue::from_string(content)
                    .map_err(|error| EngineError::Internal(format!("a pusher isn't JSON: {error}")))
            })
            .collect()
    }

    /// Sets a pusher, in the place of the one with the same application and key. Unless it is `append`ed, other users'
    /// pushers with the same go: somebody else uses that installation now.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if it can't be pushed to, `M_TOO_LARGE` if it is too long, `M_USER_LIMIT_EXCEEDED`.
    pub async fn set(&self, session: &Session, pusher: &Pusher, append: bool) -> Result<()> {
        check_ids(&pusher.ids)?;
        match &pusher.kind {
            PusherKind::Http(data) => check_url(&data.url)?,
            PusherKind::Email(_) => {
                return Err(EngineError::invalid_param(
                    "this server sends no email; `kind` is \"http\"",
                ));
            }
            _ => return Err(EngineError::invalid_param("`kind` is \"http\" or null")),
        }
        let content = serde_json::to_string(pusher)
            .map_err(|error| EngineError::Internal(format!("a pusher isn't JSON: {error}")))?;
        if content.len() > MAX_BYTES {
            return Err(EngineError::too_large(format!(
                "a pusher has at most {MAX_BYTES} bytes"
            )));
        }
        let pusher = NewPusher {
            user_nid: session.user_nid,
            device_nid: session.device_nid,
            app_id: pusher.ids.app_id.clone(),
            pushkey: pusher.ids.pushkey.clone(),
            content,
            created_at: self.clock.now_ms(),
        };
        // Each event that notifies is pushed to all of them.
        let most = self.limits.pushers;
        if self.database.set_pusher(pusher, !append, most).await? {
            return Ok(());
        }
        let message = format!("an account has at most {most} pushers");
        Err(self.limits.reached(message))
    }

    /// Removes a pusher; one that isn't there is gone already.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if there can't be one of these IDs.
    pub async fn remove(&self, session: &Session, ids: &PusherIds) -> Result<()> {
        check_ids(ids)?;
        let user_nid = session.user_nid;
        Ok(self
            .database
            .remove_pusher(user_nid, &ids.app_id, &ids.pushkey)
            .await?)
    }
}

fn check_ids(ids: &PusherIds) -> Result<()> {
    if ids.pushkey.is_empty() || ids.pushkey.len() > MAX_KEY_BYTES {
        return Err(EngineError::invalid_param(format!(
            "`pushkey` has 1 to {MAX_KEY_BYTES} bytes"
        )));
    }
    if ids.app_id.is_empty() || ids.app_id.len() > MAX_APP_BYTES {
        return Err(EngineError::invalid_param(format!(
            "`app_id` has 1 to {MAX_APP_BYTES} bytes"
        )));
    }
    if ids.pushkey.contains('\0') || ids.app_id.contains('\0') {
        return Err(EngineError::invalid_param("an ID holds no null character"));
    }
    Ok(())
}

fn check_url(url: &str) -> Result<()> {
    let fits = Url::parse(url).is_ok_and(|url| {
        matches!(url.scheme(), "https" | "http") && url.has_host() && url.path() == PATH
    });
    if fits {
        return Ok(());
    }
    Err(EngineError::invalid_param(format!(
        "`url` is an HTTPS address with the path {PATH}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_found_at_one_path_only() {
        for url in [
            "https://push.example/_matrix/push/v1/notify",
            "http://localhost:5000/_matrix/push/v1/notify",
        ] {
            assert!(check_url(url).is_ok(), "{url}");
        }
        for url in [
            "https://push.example/",
            "https://push.example/_matrix/push/v1/notify/more",
            "ftp://push.example/_matrix/push/v1/notify",
            "push.example/_matrix/push/v1/notify",
            "",
        ] {
            assert!(check_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn the_ids_of_a_pusher_have_limits() {
        let ids = |key: usize, app: usize| PusherIds::new("k".repeat(key), "a".repeat(app));
        assert!(check_ids(&ids(512, 64)).is_ok());
        for (key, app) in [(0, 1), (1, 0), (513, 1), (1, 65)] {
            assert!(check_ids(&ids(key, app)).is_err());
        }
    }
}
