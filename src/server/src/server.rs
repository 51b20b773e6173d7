//! A running server: its life from start to stop.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use parley_engine::EngineError;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

#[cfg(unix)]
use crate::control::socket::ControlSocket;
use crate::{
    config::{self, Config},
    http::{
        connections::Connections,
        health::{self, Readiness},
        metrics::{self, RequestMetrics},
        observe::ObserveLayer,
        tls::{Certificate, TlsError},
    },
    listeners::{Listeners, Socket},
    wiring::{Application, WiringError},
};

/// In a stop, for a scrape of the metrics that has begun.
const METRICS_GRACE: Duration = Duration::from_secs(1);

/// Why a server didn't start. The message is a sentence for an administrator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The folder for the data is of no use.
    #[error("cannot use the data folder {}: {source}", path.display())]
    DataFolder {
        /// As it is configured.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address} (`{key}`): {source}")]
    Listen {
        /// The key that names the address.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate is of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The recorder of metrics cannot be set up.
    #[error("cannot set up metrics: {0}")]
    Metrics(String),
    /// What the listeners would serve didn't start.
    #[error(transparent)]
    Application(#[from] WiringError),
}

/// A homeserver that accepts requests.
///
/// Dropping it ends everything at once; [`Server::stop`] is the graceful way.
pub struct Server {
    config: Config,
    address: SocketAddr,
    federation_address: Option<SocketAddr>,
    metrics_address: Option<SocketAddr>,
    certificates: Vec<Arc<Certificate>>,
    connections: Arc<Connections>,
    /// Ends last, so that the stop itself can be watched.
    metrics: Option<MetricsListener>,
    readiness: Readiness,
    application: Application,
    #[cfg(unix)]
    control: Option<ControlSocket>,
}

impl Server {
    /// Starts a server: opens its data, then listens. Returns once requests are accepted.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let Listeners {
            main,
            federation,
            metrics,
        } = Listeners::open(&config).await?;
        let sockets = [Some(&main), federation.as_ref()].into_iter().flatten();
        let certificates = sockets
            .filter_map(|socket| socket.certificate.clone())
            .collect();
        make_data_folder(&config.server.data_dir)?;
        // Before anything is measured.
        let recorder = metrics
            .is_some()
            .then(metrics::install_recorder)
            .transpose();
        let recorder = recorder.map_err(|error| StartError::Metrics(error.to_string()))?;

        let application = Application::start(&config).await?;
        #[cfg(unix)]
        let control = control_socket(&config, &application).await;
        let readiness = Readiness::new(application.ready_check());
        let connections = Connections::new(&config.listener);
        let complete = complete();
        let address = main.address;
        let routes = application
            .routes()
            .merge(health::router(readiness.clone()));
        main.serve(&connections, complete(routes))?;
        let federation_address = federation.as_ref().map(|socket| socket.address);
        if let Some(federation) = federation {
            federation.serve(&connections, complete(application.federation_routes()))?;
        }
        let metrics_address = metrics.as_ref().map(|socket| socket.address);
        let metrics = metrics.zip(recorder).map(|(socket, recorder)| {
            MetricsListener::start(socket, recorder, health::router(readiness.clone()))
        });
        Ok(Self {
            address,
            federation_address,
            metrics_address,
            certificates,
            connections,
            metrics: metrics.transpose()?,
            readiness,
            application,
            #[cfg(unix)]
            control,
            config,
        })
    }

    /// The address of `[listener]`, with the port that was taken if 0 was configured.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address of `[federation_listener]`, if there is one.
    pub fn federation_addr(&self) -> Option<SocketAddr> {
        self.federation_address
    }

    /// The address of `[metrics]`, if there is one.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The configuration that it was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether anyone has an account here.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn has_accounts(&self) -> Result<bool, EngineError> {
        let accounts = self.application.engine().accounts();
        Ok(!accounts.list(0, 1).await?.is_empty())
    }

    /// Reads the certificates of all listeners again, for connections that come from now on.
    ///
    /// # Errors
    /// The first certificate that cannot be used; the one before stays in use.
    pub fn reload_certificates(&self) -> Result<(), TlsError> {
        let each: Vec<_> = self
            .certificates
            .iter()
            .map(|certificate| certificate.reload())
            .collect();
        each.into_iter().collect()
    }

    /// Stops gracefully: `/ready` says no for the configured time, then nothing new is accepted,
    /// long polls are answered, and the requests that are there are finished.
    ///
    /// Returns once everything is written and closed: at the latest when the configured times are
    /// over. Says whether all requests were finished by then.
    pub async fn stop(mut self) -> bool {
        self.readiness.stop();
        sleep(self.config.server.drain_delay).await;
        self.application.answer_long_polls();
        let finished = self.connections.stop(self.config.server.stop_timeout).await;
        #[cfg(unix)]
        if let Some(control) = self.control.take() {
            control.stop().await;
        }
        self.application.stop().await;
        if let Some(metrics) = &self.metrics {
            metrics.connections.stop(METRICS_GRACE).await;
        }
        finished
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.connections.abort();
        if let Some(metrics) = &self.metrics {
            metrics.connections.abort();
        }
    }
}

/// Without the socket the server runs as well; only `parley user` and `parley federation` don't reach it.
#[cfg(unix)]
async fn control_socket(config: &Config, application: &Application) -> Option<ControlSocket> {
    let folder = &config.server.data_dir;
    match ControlSocket::listen(folder, application.federation().clone()).await {
        Ok(socket) => Some(socket),
        Err(error) => {
            let folder = folder.display();
            tracing::warn!(%error, %folder, "`parley user` will not reach this server");
            None
        }
    }
}

/// The listener for Prometheus and what it needs.
struct MetricsListener {
    connections: Arc<Connections>,
    _keep_up: AbortOnDropHandle<()>,
}

impl MetricsListener {
    fn start(
        socket: Socket,
        recorder: metrics::PrometheusHandle,
        health: Router,
    ) -> Result<Self, TlsError> {
        // Its own limits: it must be reachable when those of the others are exhausted.
        let connections = Connections::new(&config::Listener::default());
        let keep_up = tokio::spawn(metrics::keep_up(recorder.clone()));
        socket.serve(&connections, metrics::router(recorder).merge(health))?;
        Ok(Self {
            connections,
            _keep_up: AbortOnDropHandle::new(keep_up),
        })
    }
}

/// Lays around routes what holds for all of them.
pub(crate) fn complete() -> impl Fn(Router) -> Router {
    let observe = ObserveLayer::new(Arc::new(RequestMetrics::new()));
    move |router| parley_client_api::finish(router).layer(observe.clone())
}

/// Only its owner may look into the folder: it holds keys and messages.
pub(crate) fn make_data_folder(path: &Path) -> Result<(), StartError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|source| StartError::DataFolder {
            path: path.to_owned(),
            source,
        })
}
