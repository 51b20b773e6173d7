//! Where a domain says that its server is: `/.well-known/matrix/server`.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver>

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, StatusCode, header};
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
        let lifetime = lifetime(response.headers(), self.clock.now_ms());
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

/// How long an answer holds, by its headers. `now` is in milliseconds since the Unix epoch.
fn lifetime(headers: &HeaderMap, now: i64) -> Duration {
    let directives = headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase());
    let mut lifetime = None;
    for directive in directives {
        if directive == "no-store" || directive == "no-cache" {
            return MIN_LIFETIME;
        }
        let seconds = directive.strip_prefix("max-age=");
        if let Some(seconds) = seconds.and_then(|text| text.trim_matches('"').parse().ok()) {
            lifetime = Some(Duration::from_secs(seconds));
        }
    }
    let lifetime = lifetime.or_else(|| until_expiry(headers, now));
    let lifetime = lifetime.unwrap_or(DEFAULT_LIFETIME);
    lifetime.clamp(MIN_LIFETIME, MAX_LIFETIME)
}

/// How long an answer holds by `Expires`, which counts where `max-age` says nothing. What isn't a time has expired.
/// <https://www.rfc-editor.org/rfc/rfc9111#section-5.3>
fn until_expiry(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let time = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
    let Some(expires) = time(headers.get(header::EXPIRES)?) else {
        return Some(Duration::ZERO);
    };
    // By the clock of who says it, if that is told.
    let now = headers.get(header::DATE).and_then(time).unwrap_or_else(|| {
        SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(now).unwrap_or_default())
    });
    Some(expires.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 31 January 2026, 9:00.
    const NOW: i64 = 1_769_850_000_000;

    #[test]
    fn an_answer_holds_as_long_as_it_says_within_bounds() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(text));
            lifetime(&headers, NOW).as_secs()
        };
        assert_eq!(lifetime(&HeaderMap::new(), NOW), DEFAULT_LIFETIME);
        assert_eq!(of("public, Max-Age=3600"), 3_600);
        assert_eq!(of("max-age=1"), MIN_LIFETIME.as_secs());
        assert_eq!(of("max-age=99999999"), MAX_LIFETIME.as_secs());
        assert_eq!(of("max-age=7200, no-store"), MIN_LIFETIME.as_secs());
        assert_eq!(of("max-age=soon"), DEFAULT_LIFETIME.as_secs());
    }

    #[test]
    fn an_answer_that_tells_when_it_expires_holds_until_then() {
        let of = |all: &[(header::HeaderName, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in all {
                headers.insert(name, HeaderValue::from_static(value));
            }
            lifetime(&headers, NOW).as_secs()
        };
        let at_ten = (header::EXPIRES, "Sat, 31 Jan 2026 10:00:00 GMT");
        assert_eq!(of(std::slice::from_ref(&at_ten)), 3_600);
        let date = (header::DATE, "Sat, 31 Jan 2026 08:00:00 GMT");
        assert_eq!(of(&[at_ten.clone(), date]), 7_200);
        let max_age = (header::CACHE_CONTROL, "max-age=1800");
        assert_eq!(of(&[at_ten, max_age]), 1_800);
        for past in ["Fri, 30 Jan 2026 10:00:00 GMT", "0", "soon"] {
            let expires = (header::EXPIRES, past);
            assert_eq!(of(&[expires]), MIN_LIFETIME.as_secs(), "{past}");
        }
        let far = (header::EXPIRES, "Sat, 31 Jan 2099 10:00:00 GMT");
        assert_eq!(of(&[far]), MAX_LIFETIME.as_secs());
    }
}
