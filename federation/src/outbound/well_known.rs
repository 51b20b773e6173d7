//! Where a domain says that its server is: `/.well-known/matrix/server`.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver>

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode, header};
use parley_engine::clock::Clock;
use quick_cache::sync::Cache;
use ruma::OwnedServerName;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::http::{Connections, ReadError, check_literal, describe, read};

/// Domains that are remembered.
const REMEMBERED: usize = 10_000;
/// Of the file, in bytes.
const MAX_SIZE: usize = 50 * 1024;
/// For all of it, redirects included.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long an answer holds that doesn't say; and at least, and at most.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
const MIN_LIFETIME: Duration = Duration::from_secs(5 * 60);
const MAX_LIFETIME: Duration = Duration::from_secs(48 * 60 * 60);
/// How long it holds that there is none; twice as long each time, up to the second.
const FIRST_FAILURE: Duration = Duration::from_secs(2 * 60);
const MAX_FAILURE: Duration = Duration::from_secs(60 * 60);

/// What a domain says, or why it says nothing of use.
pub(crate) type Delegation = Result<OwnedServerName, String>;

/// What is remembered of a domain.
#[derive(Debug, Default)]
struct Entry {
    delegation: Option<Delegation>,
    /// In milliseconds.
    expires_at: i64,
    failures: u32,
}

/// Asks domains, and remembers what they said.
#[derive(Debug)]
pub(crate) struct WellKnown {
    connections: Connections,
    clock: Arc<dyn Clock>,
    port: u16,
    entries: Cache<String, Arc<Mutex<Entry>>>,
}

impl WellKnown {
    pub(crate) fn new(connections: Connections, clock: Arc<dyn Clock>, port: u16) -> Self {
        Self {
            connections,
            clock,
            port,
            entries: Cache::new(REMEMBERED),
        }
    }

    /// What `host` says, as remembered or asked now. Of several who want to know at once, one asks.
    pub(crate) async fn of(&self, host: &str) -> Delegation {
        let entry = match self.entries.get(host) {
            Some(entry) => entry,
            None => {
                let entry = Arc::default();
                self.entries.insert(host.to_owned(), Arc::clone(&entry));
                entry
            }
        };
        let mut entry = entry.lock().await;
        if let Some(delegation) = &entry.delegation
            && self.clock.now_ms() < entry.expires_at
        {
            return delegation.clone();
        }
        let (delegation, lifetime) = match self.ask(host).await {
            Ok((server, lifetime)) => {
                entry.failures = 0;
                (Ok(server), lifetime)
            }
            Err(reason) => {
                let doubled = FIRST_FAILURE * 2_u32.pow(entry.failures.min(8));
                entry.failures += 1;
                (Err(reason), doubled.min(MAX_FAILURE))
            }
        };
        let lifetime = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        entry.expires_at = self.clock.now_ms().saturating_add(lifetime);
        entry.delegation = Some(delegation.clone());
        delegation
    }

    /// Forgets what was said, to ask anew.
    pub(crate) fn forget(&self, host: &str) {
        self.entries.remove(host);
    }

    async fn ask(&self, host: &str) -> Result<(OwnedServerName, Duration), String> {
        #[derive(Deserialize)]
        struct File {
            #[serde(rename = "m.server")]
            server: String,
        }
        let mut url = Url::parse(&format!("https://{host}/.well-known/matrix/server"))
            .map_err(|error| error.to_string())?;
        if self.port != 443 {
            // Fails for URLs without a host only.
            let _ = url.set_port(Some(self.port));
        }
        check_literal(&self.connections.filter, &url)?;
        let request = self.connections.web.get(url).timeout(TIMEOUT);
        let response = request.send().await.map_err(|error| describe(&error))?;
        if response.status() != StatusCode::OK {
            return Err(format!("the answer has status {}", response.status()));
        }
        let lifetime = lifetime(response.headers());
        let body = read(response, MAX_SIZE)
            .await
            .map_err(|error| match error {
                ReadError::TooLarge(limit) => format!("the file has more than {limit} bytes"),
                ReadError::Broken(reason) => reason,
            })?;
        let file: File = serde_json::from_slice(&body)
            .map_err(|error| format!("the file isn't what it should be: {error}"))?;
        let server = OwnedServerName::try_from(file.server.as_str())
            .map_err(|_| format!("`{}` is no server's name", file.server))?;
        Ok((server, lifetime))
    }
}

/// How long an answer holds, by its headers.
fn lifetime(headers: &HeaderMap) -> Duration {
    let directives = headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase());
    let mut lifetime = DEFAULT_LIFETIME;
    for directive in directives {
        if directive == "no-store" || directive == "no-cache" {
            return MIN_LIFETIME;
        }
        let seconds = directive.strip_prefix("max-age=");
        if let Some(seconds) = seconds.and_then(|text| text.trim_matches('"').parse().ok()) {
            lifetime = Duration::from_secs(seconds);
        }
    }
    lifetime.clamp(MIN_LIFETIME, MAX_LIFETIME)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_answer_holds_as_long_as_it_says_within_bounds() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(text));
            lifetime(&headers).as_secs()
        };
        assert_eq!(lifetime(&HeaderMap::new()), DEFAULT_LIFETIME);
        assert_eq!(of("public, Max-Age=3600"), 3_600);
        assert_eq!(of("max-age=1"), MIN_LIFETIME.as_secs());
        assert_eq!(of("max-age=99999999"), MAX_LIFETIME.as_secs());
        assert_eq!(of("max-age=7200, no-store"), MIN_LIFETIME.as_secs());
        assert_eq!(of("max-age=soon"), DEFAULT_LIFETIME.as_secs());
    }
}
