//! TLS with a certificate that can be renewed while the server runs.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The chain of certificates cannot be read.
    #[error("cannot read the certificate {}: {source}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// The private key cannot be read.
    #[error("cannot read the private key {}: {source}", path.display())]
    PrivateKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key are readable, but of no use together.
    #[error("the certificate {} cannot be used: {source}", path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong, such as a key that isn't the certificate's.
        source: rustls::Error,
    },
}

/// A certificate on disk and as it was last read.
#[derive(Debug)]
pub(crate) struct Certificate {
    chain: PathBuf,
    private_key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    pub(crate) fn load(chain: &Path, private_key: &Path) -> Result<Arc<Self>, TlsError> {
        let current = read(chain, private_key)?;
        Ok(Arc::new(Self {
            chain: chain.to_owned(),
            private_key: private_key.to_owned(),
            current: RwLock::new(Arc::new(current)),
        }))
    }

    /// Reads the files again. On an error the certificate that was there stays in use.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let renewed = Arc::new(read(&self.chain, &self.private_key)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// What turns TCP connections into TLS ones, by HTTP/2 where the client knows it.
    pub(crate) fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, TlsError> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Unusable {
                path: self.chain.clone(),
                source,
            })?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(chain: &Path, private_key: &Path) -> Result<CertifiedKey, TlsError> {
    let certificate = |source| TlsError::Certificate {
        path: chain.to_owned(),
        source,
    };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .map_err(certificate)?;
    if certificates.is_empty() {
        return Err(certificate(rustls::pki_types::pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(private_key).map_err(|source| TlsError::PrivateKey {
        path: private_key.to_owned(),
        source,
    })?;
    CertifiedKey::from_der(certificates, key, &provider()).map_err(|source| TlsError::Unusable {
        path: chain.to_owned(),
        source,
    })
}
