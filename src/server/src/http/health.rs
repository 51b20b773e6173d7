//! `/health`: the process answers. `/ready`: it should be sent requests.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::{HeaderValue, StatusCode, header};

/// What `/ready` asks, apart from whether the server is stopping. An error is a sentence for the
/// log, not for the asker.
pub(crate) type ReadyCheck =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// A check that hangs is a failed one.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether requests should be sent to this server.
#[derive(Clone)]
pub(crate) struct Readiness {
    stopping: Arc<AtomicBool>,
    check: ReadyCheck,
}

impl Readiness {
    pub(crate) fn new(check: ReadyCheck) -> Self {
        Self {
            stopping: Arc::default(),
            check,
        }
    }

    /// From now on the server isn't ready.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    async fn is_ready(&self) -> bool {
        if self.stopping.load(Ordering::Relaxed) {
            return false;
        }
        let outcome = tokio::time::timeout(CHECK_TIMEOUT, (self.check)()).await;
        let outcome = outcome.unwrap_or_else(|_| Err("the check took too long".to_owned()));
        match outcome {
            Ok(()) => true,
            Err(reason) => {
                tracing::warn!(%reason, "not ready");
                false
            }
        }
    }
}

/// The two endpoints.
pub(crate) fn router(readiness: Readiness) -> Router {
    Router::new()
        .route("/health", get(|| async { answer(true) }))
        .route("/ready", get(ready))
        .with_state(readiness)
}

async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    answer(readiness.is_ready().await)
}

fn answer(good: bool) -> impl IntoResponse {
    let (status, body) = if good {
        (StatusCode::OK, r#"{"status":"ok"}"#)
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"status":"unavailable"}"#,
        )
    };
    let json = HeaderValue::from_static("application/json");
    let uncached = HeaderValue::from_static("no-store");
    let headers = [
        (header::CONTENT_TYPE, json),
        (header::CACHE_CONTROL, uncached),
    ];
    (status, headers, body)
}
