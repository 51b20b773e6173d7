//! The sockets that the configuration names, with their certificates.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use axum::Router;
use tokio::net::TcpListener;

use crate::{
    StartError, TlsError,
    config::Config,
    http::{connections::Connections, tls::Certificate},
};

/// Open, but not served yet: who connects now waits.
pub(crate) struct Listeners {
    pub(crate) main: Socket,
    pub(crate) federation: Option<Socket>,
    pub(crate) metrics: Option<Socket>,
}

impl Listeners {
    /// Opens what is configured. Done before anything else is started, because an address that
    /// is in use is the most frequent mistake.
    pub(crate) async fn open(config: &Config) -> Result<Self, StartError> {
        let listener = &config.listener;
        let certificate = load(&listener.certificate, &listener.private_key)?;
        let main = Socket::open("listener.address", listener.address, certificate).await?;
        let mut federation = None;
        if let Some(address) = config.federation_listener.address {
            let listener = &config.federation_listener;
            let certificate = load(&listener.certificate, &listener.private_key)?;
            let socket = Socket::open("federation_listener.address", address, certificate);
            federation = Some(socket.await?);
        }
        let mut metrics = None;
        if let Some(address) = config.metrics.address {
            metrics = Some(Socket::open("metrics.address", address, None).await?);
        }
        Ok(Self {
            main,
            federation,
            metrics,
        })
    }
}

/// A listening socket.
pub(crate) struct Socket {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) certificate: Option<Arc<Certificate>>,
}

impl Socket {
    async fn open(
        key: &'static str,
        address: SocketAddr,
        certificate: Option<Arc<Certificate>>,
    ) -> Result<Self, StartError> {
        let failed = |source: io::Error| StartError::Listen {
            key,
            address,
            source,
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            certificate,
        })
    }

    /// Begins to answer.
    pub(crate) fn serve(
        self,
        connections: &Arc<Connections>,
        router: Router,
    ) -> Result<(), TlsError> {
        let tls = self
            .certificate
            .as_ref()
            .map(|certificate| certificate.acceptor())
            .transpose()?;
        connections.serve(self.listener, tls, router);
        Ok(())
    }
}

fn load(
    certificate: &Option<PathBuf>,
    private_key: &Option<PathBuf>,
) -> Result<Option<Arc<Certificate>>, TlsError> {
    match (certificate, private_key) {
        (Some(certificate), Some(private_key)) => {
            Certificate::load(certificate, private_key).map(Some)
        }
        // One without the other was refused with the configuration.
        _ => Ok(None),
    }
}
