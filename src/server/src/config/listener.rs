//! `[listener]`

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    duration::{self, SECOND},
    error::Invalid,
    network, size,
    size::{KIB, MIB},
};

/// Where requests are accepted, and their limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// Address and port. Port 0 takes any that is free.
    pub address: SocketAddr,
    /// Chain of certificates in PEM. With it the listener speaks TLS only.
    pub certificate: Option<PathBuf>,
    /// The private key of the certificate, in PEM.
    pub private_key: Option<PathBuf>,
    /// Whose `X-Forwarded-For` and `X-Request-Id` are believed.
    #[serde(with = "network")]
    pub trusted_proxies: Vec<IpNet>,
    /// The largest body of a request, in bytes, except where an endpoint has its own limit.
    #[serde(with = "size")]
    pub max_body_size: u64,
    /// The largest head of a request, in bytes: its line and its headers.
    #[serde(with = "size")]
    pub max_header_size: u64,
    /// How many connections are open at once. More wait until one ends.
    pub max_connections: u32,
    /// How long a connection may lie idle or take to send a request's head.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// How long the sender of a body may pause.
    #[serde(with = "duration")]
    pub body_timeout: Duration,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8008)),
            certificate: None,
            private_key: None,
            trusted_proxies: Vec::new(),
            max_body_size: 4 * MIB,
            max_header_size: 32 * KIB,
            max_connections: 10_000,
            // Longer than reverse proxies keep idle connections (nginx: 60 seconds), so that it is
            // they who close them and no request runs into a closing connection.
            idle_timeout: SECOND * 75,
            body_timeout: SECOND * 30,
        }
    }
}

impl Listener {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        match (&self.certificate, &self.private_key) {
            (Some(_), None) => {
                return Err(Invalid::new(
                    "listener.certificate",
                    "needs `listener.private_key` beside it",
                ));
            }
            (None, Some(_)) => {
                return Err(Invalid::new(
                    "listener.private_key",
                    "needs `listener.certificate` beside it",
                ));
            }
            _ => {}
        }
        if self.max_body_size < 64 * KIB {
            // An event may be that large, see "Size limits" in the specification.
            return Err(Invalid::new(
                "listener.max_body_size",
                "must be at least 64 KiB",
            ));
        }
        if !(8 * KIB..=MIB).contains(&self.max_header_size) {
            return Err(Invalid::new(
                "listener.max_header_size",
                "must be between 8 KiB and 1 MiB",
            ));
        }
        if self.max_connections == 0 {
            return Err(Invalid::new(
                "listener.max_connections",
                "must be at least 1",
            ));
        }
        if self.idle_timeout.is_zero() {
            return Err(Invalid::new(
                "listener.idle_timeout",
                "must be longer than 0s",
            ));
        }
        if self.body_timeout.is_zero() {
            return Err(Invalid::new(
                "listener.body_timeout",
                "must be longer than 0s",
            ));
        }
        Ok(())
    }
}
