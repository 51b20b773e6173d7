//! TLS for the listeners of the tests: certificates of an authority that exists in this process only.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// How long a connection may take to agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(5);

static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::new);

/// Who signs the certificates of the tests.
struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters =
            CertificateParams::new(Vec::<String>::new()).expect("an authority has no names");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key for the authority");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(parameters, key),
        }
    }
}

/// The certificate of the tests' authority, which servers that are to trust each other have to know.
pub fn authority() -> CertificateDer<'static> {
    AUTHORITY.certificate.clone()
}

/// The same as PEM.
pub fn authority_pem() -> &'static str {
    &AUTHORITY.pem
}

/// What a listener needs for TLS under these names, of which some may be IP addresses.
pub(crate) fn acceptor(names: &[String]) -> TlsAcceptor {
    let key = KeyPair::generate().expect("a key for a listener");
    let parameters = CertificateParams::new(names).expect("the names are such");
    let certificate = parameters
        .signed_by(&key, &AUTHORITY.issuer)
        .expect("the authority signs");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows the protocols")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("the key is the certificate's");
    TlsAcceptor::from(Arc::new(config))
}

/// A listener that speaks TLS.
pub(crate) struct TlsListener {
    pub(crate) listener: TcpListener,
    pub(crate) acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                continue;
            };
            let handshake = self.acceptor.accept(stream);
            // Who speaks no TLS, or trusts another authority, is the test's concern.
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, handshake).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// From where a connection came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ComesFrom(pub(crate) SocketAddr);

impl Connected<IncomingStream<'_, TlsListener>> for ComesFrom {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self(*stream.remote_addr())
    }
}
