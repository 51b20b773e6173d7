//! Metrics of requests, and the endpoint where Prometheus reads all metrics of the process.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use axum::{Router, routing::get};
use http::{HeaderValue, Method, StatusCode, header};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
pub(crate) use metrics_exporter_prometheus::PrometheusHandle;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};

const REQUESTS: &str = "parley_http_requests_total";
const DURATION: &str = "parley_http_request_duration_seconds";
const IN_FLIGHT: &str = "parley_http_requests_in_flight";
const CONNECTIONS: &str = "parley_http_connections";

/// Long polls make the upper end.
const BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Between two times that recorded durations are sorted into their buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The recorder is the process's: several servers in one process, as in tests, share it.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Lets everything that is measured from now on be recorded. Without it, measuring costs nothing.
pub(crate) fn install_recorder() -> Result<PrometheusHandle, BuildError> {
    if let Some(handle) = RECORDER.get() {
        return Ok(handle.clone());
    }
    let matcher = Matcher::Suffix("_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(matcher, BUCKETS)?;
    let handle = builder.install_recorder()?;
    metrics::describe_counter!(REQUESTS, "Requests by method, endpoint and class of status");
    metrics::describe_histogram!(
        DURATION,
        metrics::Unit::Seconds,
        "Time until the answer began"
    );
    metrics::describe_gauge!(IN_FLIGHT, "Requests being answered");
    metrics::describe_gauge!(CONNECTIONS, "Open connections");
    Ok(RECORDER.get_or_init(|| handle).clone())
}

/// The endpoint `/metrics`.
pub(crate) fn router(handle: PrometheusHandle) -> Router {
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let headers = [(header::CONTENT_TYPE, text)];
    Router::new().route(
        "/metrics",
        get(|| async move { (headers, handle.render()) }),
    )
}

/// Sorts what was recorded into buckets, for ever: until then every duration is kept in memory.
pub(crate) async fn keep_up(handle: PrometheusHandle) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        interval.tick().await;
        handle.run_upkeep();
    }
}

/// The number of open connections.
pub(super) fn connections() -> Gauge {
    gauge!(CONNECTIONS)
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered(StatusCode),
    /// The client went away before.
    Abandoned,
}

impl Outcome {
    const LABELS: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "abandoned"];

    fn index(self) -> usize {
        match self {
            Self::Answered(status) => usize::from(status.as_u16() / 100).clamp(1, 5) - 1,
            Self::Abandoned => 5,
        }
    }
}

const METHODS: [&str; 7] = ["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "other"];

fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::PUT => 1,
        Method::POST => 2,
        Method::DELETE => 3,
        Method::OPTIONS => 4,
        Method::HEAD => 5,
        _ => 6,
    }
}

/// The metrics of one endpoint, found once and then at hand.
#[derive(Default)]
pub(super) struct EndpointMetrics {
    requests: [OnceLock<Counter>; Outcome::LABELS.len()],
    duration: OnceLock<Histogram>,
}

/// The metrics of all endpoints by their path's template, so that ids don't multiply them.
pub(crate) struct RequestMetrics {
    endpoints: RwLock<HashMap<Box<str>, Arc<[EndpointMetrics; METHODS.len()]>>>,
    pub(super) in_flight: Gauge,
}

impl RequestMetrics {
    pub(crate) fn new() -> Self {
        Self {
            endpoints: RwLock::default(),
            in_flight: gauge!(IN_FLIGHT),
        }
    }

    /// `path` is a template such as `/rooms/{room_id}`, of which there are few.
    pub(super) fn endpoint(&self, path: &str, method: &Method) -> Endpoint {
        let known = self
            .endpoints
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(path)
            .cloned();
        let methods = known.unwrap_or_else(|| {
            let mut endpoints = self
                .endpoints
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            Arc::clone(endpoints.entry(path.into()).or_default())
        });
        Endpoint {
            methods,
            method: method_index(method),
        }
    }
}

/// Of one method at one path.
pub(super) struct Endpoint {
    methods: Arc<[EndpointMetrics; METHODS.len()]>,
    method: usize,
}

impl Endpoint {
    pub(super) fn record(&self, path: &str, outcome: Outcome, duration: Duration) {
        let method = METHODS[self.method];
        let metrics = &self.methods[self.method];
        let index = outcome.index();
        let requests = || {
            let status = Outcome::LABELS[index];
            counter!(REQUESTS, "method" => method, "path" => path.to_owned(), "status" => status)
        };
        metrics.requests[index].get_or_init(requests).increment(1);
        let histogram = || histogram!(DURATION, "method" => method, "path" => path.to_owned());
        metrics
            .duration
            .get_or_init(histogram)
            .record(duration.as_secs_f64());
    }
}
