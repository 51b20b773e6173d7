//! Credentials for the TURN servers that relay calls: <https://spec.matrix.org/v1.19/client-server-api/#voice-over-ip>.
//!
//! A TURN server that shares a secret with this one takes names that say until when they hold, with a code that proves it
//! ("TURN REST API", coturn's `use-auth-secret`): nothing is kept of them here.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::{
    EngineError, Result,
    clock::Clock,
    sessions::{AccountKind, Session},
    settings::{TurnAccess, TurnSettings},
};

/// Gives credentials.
#[derive(Clone, Debug)]
pub struct Turn {
    settings: Option<Arc<TurnSettings>>,
    clock: Arc<dyn Clock>,
}

/// What a client presents to the TURN servers.
#[derive(Clone, Debug)]
pub struct TurnCredentials {
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
    /// The addresses of the servers, `turn:` or `turns:`.
    pub uris: Vec<String>,
    /// How long the credentials hold.
    pub lifetime: Duration,
}

impl Turn {
    pub(crate) fn new(settings: Option<TurnSettings>, clock: &Arc<dyn Clock>) -> Self {
        Self {
            settings: settings.map(Arc::new),
            clock: Arc::clone(clock),
        }
    }

    /// Credentials for a user.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there are no TURN servers; `M_GUEST_ACCESS_FORBIDDEN` for guests, unless they may.
    pub fn credentials(&self, session: &Session) -> Result<TurnCredentials> {
        let settings = self.settings.as_ref();
        let settings = settings.ok_or_else(|| {
            EngineError::not_found("this server has no TURN servers to relay calls")
        })?;
        if session.kind == AccountKind::Guest && !settings.guests {
            return Err(EngineError::guest_forbidden(
                "calls of guests aren't relayed here",
            ));
        }
        let (username, password) = match &settings.access {
            TurnAccess::SharedSecret(secret) => {
                let lifetime = i64::try_from(settings.lifetime.as_secs()).unwrap_or(i64::MAX);
                let until = (self.clock.now_ms() / 1_000).saturating_add(lifetime);
                let username = format!("{until}:{}", session.user_id);
                let code = code(secret.expose(), &username)?;
                (username, code)
            }
            TurnAccess::Password { username, password } => {
                (username.clone(), password.expose().to_owned())
            }
        };
        Ok(TurnCredentials {
            username,
            password,
            uris: settings.uris.clone(),
            lifetime: settings.lifetime,
        })
    }
}

/// The code that proves that a name comes from who knows the secret.
fn code(secret: &str, username: &str) -> Result<String> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes())
        .map_err(|error| EngineError::Internal(error.to_string()))?;
    mac.update(username.as_bytes());
    Ok(STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_that_which_turn_servers_compute() {
        // By `openssl dgst -sha1 -hmac north -binary | base64`.
        let code = code("north", "1433895918:@alice:a.test").unwrap();
        assert_eq!(code, "TP3BMykxPF2nOgpzVbv+Nk4QqK0=");
    }
}
