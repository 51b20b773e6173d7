//! `[federation]`

use std::path::PathBuf;

use ipnet::IpNet;
use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};

use super::{error::Invalid, network};

/// With which other servers this one speaks, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Federation {
    /// Whether it speaks with others at all.
    pub enabled: bool,
    /// Certificates, PEM, of authorities that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Networks that may be connected to although they aren't public.
    #[serde(with = "network")]
    pub permitted_networks: Vec<IpNet>,
    /// Servers that are asked for keys of servers that can't be reached.
    pub trusted_notaries: Vec<OwnedServerName>,
    /// If there are any, this server speaks with no others.
    pub allowed_servers: Vec<String>,
    /// Servers that this one doesn't speak with.
    pub denied_servers: Vec<String>,
    /// Identity servers that are asked whose an address is.
    pub identity_servers: Vec<String>,
}

impl Default for Federation {
    fn default() -> Self {
        Self {
            enabled: true,
            ca_file: None,
            permitted_networks: Vec::new(),
            trusted_notaries: Vec::new(),
            allowed_servers: Vec::new(),
            denied_servers: Vec::new(),
            identity_servers: Vec::new(),
        }
    }
}

impl Federation {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check_patterns("federation.allowed_servers", &self.allowed_servers)?;
        check_patterns("federation.denied_servers", &self.denied_servers)?;
        match self
            .identity_servers
            .iter()
            .find(|name| ruma::ServerName::parse(name).is_err())
        {
            None => Ok(()),
            Some(name) => Err(Invalid::new(
                "federation.identity_servers",
                format!("`{name}` is no host, with a port or without"),
            )),
        }
    }
}

/// Each is a server's name, or `*.` and a name.
fn check_patterns(key: &'static str, patterns: &[String]) -> Result<(), Invalid> {
    let is_name = |pattern: &String| {
        let name = pattern.strip_prefix("*.").unwrap_or(pattern);
        ruma::ServerName::parse(name).is_ok()
    };
    match patterns.iter().find(|pattern| !is_name(pattern)) {
        None => Ok(()),
        Some(pattern) => Err(Invalid::new(
            key,
            format!(
                "`{pattern}` is neither a server's name nor such as \"*.example.org\", all names below a domain"
            ),
        )),
    }
}
