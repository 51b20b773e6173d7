//! `[federation_listener]`

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Invalid;

/// An additional address that answers other servers only, usually port 8448 with TLS.
///
/// `[listener]` answers them too; its limits and trusted proxies hold for this one as well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FederationListener {
    /// Address and port; without it there is no such listener.
    pub address: Option<SocketAddr>,
    /// Chain of certificates in PEM.
    pub certificate: Option<PathBuf>,
    /// The private key of the certificate, in PEM.
    pub private_key: Option<PathBuf>,
}

impl FederationListener {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        const CERTIFICATE: &str = "federation_listener.certificate";
        const PRIVATE_KEY: &str = "federation_listener.private_key";
        match (&self.address, &self.certificate, &self.private_key) {
            (_, Some(_), None) => Err(Invalid::new(
                CERTIFICATE,
                format!("needs `{PRIVATE_KEY}` beside it"),
            )),
            (_, None, Some(_)) => Err(Invalid::new(
                PRIVATE_KEY,
                format!("needs `{CERTIFICATE}` beside it"),
            )),
            (None, Some(_), Some(_)) => Err(Invalid::new(
                CERTIFICATE,
                "has no effect without `federation_listener.address`",
            )),
            _ => Ok(()),
        }
    }
}
