//! What is seen of every request: a span with its id, a line in the log, metrics, and panics.
//!
//! One layer instead of four, without a box: it is in the way of every request. Neither query
//! nor path are logged, only the template of the path, because both can hold secrets and ids.

use std::{
    convert::Infallible,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    extract::{MatchedPath, Request},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use parley_client_api::ApiError;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::Span;

use super::{
    metrics::{Endpoint, Outcome, RequestMetrics},
    request_id,
};

/// For requests that no endpoint answers.
const UNMATCHED: &str = "(unmatched)";

/// Observes the requests of a router. To be laid around its routes, so that their paths are known.
#[derive(Clone)]
pub(crate) struct ObserveLayer {
    metrics: Arc<RequestMetrics>,
}

impl ObserveLayer {
    pub(crate) fn new(metrics: Arc<RequestMetrics>) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe {
            inner,
            metrics: Arc::clone(&self.metrics),
        }
    }
}

/// See [`ObserveLayer`].
#[derive(Clone)]
pub(crate) struct Observe<S> {
    inner: S,
    metrics: Arc<RequestMetrics>,
}

impl<S> Service<Request> for Observe<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Observed<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let started = Instant::now();
        let id = request_id::of(request.headers());
        let path = request.extensions().get::<MatchedPath>().cloned();
        let template = path.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
        let span = tracing::info_span!(
            "request",
            id = id.to_str().unwrap_or_default(),
            method = request.method().as_str(),
            path = template,
        );
        let endpoint = self.metrics.endpoint(template, request.method());
        self.metrics.in_flight.increment(1.0);
        let observation = Observation {
            metrics: Arc::clone(&self.metrics),
            endpoint,
            path,
            started,
            outcome: Outcome::Abandoned,
            span,
        };
        let inner = {
            let _entered = observation.span.enter();
            self.inner.call(request)
        };
        Observed {
            inner,
            id,
            observation,
        }
    }
}

pin_project! {
    /// The answer to a request that is being observed.
    pub(crate) struct Observed<F> {
        #[pin]
        inner: F,
        id: HeaderValue,
        observation: Observation,
    }
}

impl<F> Future for Observed<F>
where
    F: Future<Output = Result<Response, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.observation.span.enter();
        // Safe to observe after a panic: nothing of `inner` is touched again.
        let polled = catch_unwind(AssertUnwindSafe(|| this.inner.poll(context)));
        let mut response = match polled {
            Ok(polled) => match ready!(polled) {
                Ok(response) => response,
                Err(never) => match never {},
            },
            Err(_) => {
                // The panic itself was logged by the panic hook.
                tracing::error!("the request ended in a panic");
                after_panic()
            }
        };
        this.observation.outcome = Outcome::Answered(response.status());
        response
            .headers_mut()
            .insert(request_id::X_REQUEST_ID, this.id.clone());
        Poll::Ready(Ok(response))
    }
}

/// What a client gets instead of the answer of an endpoint that panicked.
fn after_panic() -> Response {
    let mut response = ApiError::internal().into_response();
    // Web clients must be able to read errors as well, and this one comes from outside of CORS.
    let any = HeaderValue::from_static("*");
    response
        .headers_mut()
        .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    response
}

/// Recorded when it is dropped, because a client that goes away drops the request.
struct Observation {
    metrics: Arc<RequestMetrics>,
    endpoint: Endpoint,
    path: Option<MatchedPath>,
    started: Instant,
    outcome: Outcome,
    span: Span,
}

impl Drop for Observation {
    fn drop(&mut self) {
        let _entered = self.span.enter();
        let duration = self.started.elapsed();
        self.metrics.in_flight.decrement(1.0);
        let path = self.path.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
        self.endpoint.record(path, self.outcome, duration);
        // To the microsecond; more digits would only be noise.
        let ms = duration.as_micros() as f64 / 1_000.0;
        match self.outcome {
            Outcome::Answered(status) if status.is_server_error() => {
                tracing::info!(status = status.as_u16(), ms, "answered");
            }
            Outcome::Answered(status) => {
                tracing::debug!(status = status.as_u16(), ms, "answered");
            }
            Outcome::Abandoned => tracing::debug!(ms, "abandoned by the client"),
        }
    }
}
