//! What an administrator may decide about federation. The defaults are safe ones.

use std::sync::Arc;

use ipnet::IpNet;
use ruma::OwnedServerName;
use rustls_pki_types::CertificateDer;

use crate::{Names, Transport};

/// With whom this server speaks, and how.
#[derive(Clone, Debug)]
pub struct FederationSettings {
    /// Whether it speaks with other servers at all.
    pub enabled: bool,
    /// Certificates of authorities that are trusted beside those of the system.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Networks that may be connected to although they aren't public, such as loopback and private ones.
    pub permitted_networks: Vec<IpNet>,
    /// Servers that are asked for keys of servers that can't be reached, or instead of them.
    pub notaries: Vec<OwnedServerName>,
    /// If there are any, no other servers are spoken with: names, or `*.` and a domain for all names below it.
    pub allowed_servers: Vec<String>,
    /// Servers that aren't spoken with, in the same form. This has the last word.
    pub denied_servers: Vec<String>,
    /// Identity servers, host and port, that are asked whose an address is. None is asked that isn't here.
    pub identity_servers: Vec<String>,
    /// The ports that the specification names. Tests have others.
    pub ports: Ports,
    /// Who knows names; the DNS if `None`.
    pub names: Option<Arc<dyn Names>>,
    /// What carries requests; HTTP over TLS, to where names lead, if `None`.
    pub transport: Option<Arc<dyn Transport>>,
}

impl Default for FederationSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            authorities: Vec::new(),
            permitted_networks: Vec::new(),
            notaries: Vec::new(),
            allowed_servers: Vec::new(),
            denied_servers: Vec::new(),
            identity_servers: Vec::new(),
            ports: Ports::default(),
            names: None,
            transport: None,
        }
    }
}

/// Ports that are used where a name has none.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Of `/.well-known/matrix/server`.
    pub https: u16,
    /// Of servers.
    pub matrix: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            https: 443,
            matrix: 8448,
        }
    }
}
