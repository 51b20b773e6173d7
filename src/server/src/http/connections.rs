//! Accepts connections, limits them, serves requests on them, and ends them gracefully.
//!
//! Without TLS only HTTP/1.1 is spoken, as reverse proxies do; with TLS the client chooses by
//! ALPN. So the version is never guessed from the first bytes, for which there'd be no time limit.

use std::{io, net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use ::metrics::Gauge;
use axum::{Router, body::Body, response::Response};
use http::Request;
use hyper::{
    body::Incoming,
    rt::{Read, Write},
    server::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ipnet::IpNet;
use parley_client_api::ClientAddress;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service as _;

use super::{body::TimedBody, forwarded, metrics, request_id::X_REQUEST_ID};
use crate::config::Listener as Limits;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// After an error of `accept`, such as too many open files, which lasts a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Requests at once on one HTTP/2 connection: a client's long polls and uploads, but no flood.
const HTTP2_STREAMS: u32 = 256;

const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What all connections of a server have in common.
pub(crate) struct Connections {
    trusted_proxies: Box<[IpNet]>,
    body_timeout: Duration,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    slots: Arc<Semaphore>,
    open: Gauge,
    tasks: TaskTracker,
    /// No more connections, and no more requests on those that are open.
    stop: CancellationToken,
    /// Requests that are still being answered are given up.
    abort: CancellationToken,
}

impl Connections {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let header_size = usize::try_from(limits.max_header_size).unwrap_or(usize::MAX);
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.idle_timeout)
            .max_buf_size(header_size);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits.max_header_size).unwrap_or(u32::MAX))
            .max_concurrent_streams(HTTP2_STREAMS)
            .keep_alive_interval(limits.idle_timeout)
            .keep_alive_timeout(HTTP2_PING_TIMEOUT);
        Arc::new(Self {
            trusted_proxies: limits.trusted_proxies.clone().into(),
            body_timeout: limits.body_timeout,
            http1,
            http2,
            slots: Arc::new(Semaphore::new(limits.max_connections as usize)),
            open: metrics::connections(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
        })
    }

    /// Serves `router` on `listener` until [`Connections::stop`].
    pub(crate) fn serve(
        self: &Arc<Self>,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        router: Router,
    ) {
        let accepting = Arc::clone(self).accept(listener, tls, router);
        self.tasks.spawn(accepting);
    }

    /// Ends the listeners, lets requests finish for at most `grace`, then ends them too.
    ///
    /// Returns whether all of them finished.
    pub(crate) async fn stop(&self, grace: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        if timeout(grace, self.tasks.wait()).await.is_ok() {
            return true;
        }
        self.abort.cancel();
        self.tasks.wait().await;
        false
    }

    /// Ends everything at once.
    pub(crate) fn abort(&self) {
        self.stop.cancel();
        self.abort.cancel();
    }

    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        router: Router,
    ) {
        let next = async || -> io::Result<_> {
            let slot = Arc::clone(&self.slots)
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            let (stream, peer) = listener.accept().await?;
            Ok((slot, stream, peer))
        };
        while let Some(accepted) = self.stop.run_until_cancelled(next()).await {
            match accepted {
                Ok((slot, stream, peer)) => {
                    let service = Service {
                        shared: Arc::clone(&self),
                        router: router.clone(),
                        peer: peer.ip().to_canonical(),
                    };
                    self.tasks
                        .spawn(connection(service, stream, tls.clone(), slot));
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Errors of `accept` that say something about the other side only.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

async fn connection(
    service: Service,
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    _slot: OwnedSemaphorePermit,
) {
    let shared = Arc::clone(&service.shared);
    let _counted = Counted::new(&shared.open);
    // Answers are written whole; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return http1(service, TokioIo::new(stream)).await;
    };
    let handshake = shared
        .stop
        .run_until_cancelled(timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)));
    match handshake.await {
        Some(Ok(Ok(stream))) => {
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let stream = TokioIo::new(stream);
            if is_http2 {
                http2(service, stream).await;
            } else {
                http1(service, stream).await;
            }
        }
        Some(Ok(Err(error))) => tracing::debug!(%error, "no TLS connection came about"),
        Some(Err(_)) | None => {}
    }
}

/// Serves an HTTP/1.1 connection to its end.
async fn http1<I: Read + Write + Unpin>(service: Service, stream: I) {
    let shared = Arc::clone(&service.shared);
    let connection = Box::pin(shared.http1.serve_connection(stream, service));
    drive(&shared, connection, http1::Connection::graceful_shutdown).await;
}

/// Serves an HTTP/2 connection to its end.
async fn http2<I: Read + Write + Unpin + Send + 'static>(service: Service, stream: I) {
    let shared = Arc::clone(&service.shared);
    let connection = Box::pin(shared.http2.serve_connection(stream, service));
    drive(&shared, connection, http2::Connection::graceful_shutdown).await;
}

/// Serves a connection until it ends or the server stops. It comes in a box, or its state, kilobytes, would be in the
/// task of each connection several times: in this function's, in its caller's, and for each protocol.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    shared: &Connections,
    mut connection: Pin<Box<C>>,
    finish: impl FnOnce(Pin<&mut C>),
) {
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = shared.stop.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => Some(ended),
        None => {
            finish(connection.as_mut());
            shared.abort.run_until_cancelled(connection).await
        }
    };
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "a connection failed");
    }
}

/// Serves the requests of one connection.
#[derive(Clone)]
struct Service {
    shared: Arc<Connections>,
    router: Router,
    peer: IpAddr,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response;
    type Error = std::convert::Infallible;
    type Future = <Router as tower::Service<Request<Body>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let trusted = &*self.shared.trusted_proxies;
        let client = forwarded::client_address(self.peer, request.headers(), trusted);
        if !forwarded::is_trusted(self.peer, trusted) {
            request.headers_mut().remove(X_REQUEST_ID);
        }
        request.extensions_mut().insert(ClientAddress(client));
        let request = request.map(|body| Body::new(TimedBody::new(body, self.shared.body_timeout)));
        self.router.clone().call(request)
    }
}

/// Counts a connection for as long as it lives.
struct Counted<'a>(&'a Gauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
