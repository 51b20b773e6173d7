//! From the name of a server to where it is.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>

use std::{net::IpAddr, sync::Arc};

use ruma::ServerName;

use super::{
    http::{Connections, services_of},
    names::Names,
    well_known::WellKnown,
};

/// Where a server is, and as whom it has to present itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// What paths are appended to. Its host is the name of the certificate.
    pub(crate) base: String,
    /// The `Host` header.
    pub(crate) host: String,
    /// Whether SRV records say which machine and port it is.
    pub(crate) by_service: bool,
}

/// Finds servers.
#[derive(Clone, Debug)]
pub(crate) struct Discovery {
    pub(crate) names: Arc<dyn Names>,
    pub(crate) well_known: Arc<WellKnown>,
    pub(crate) connections: Connections,
    /// The port of servers that name none.
    pub(crate) port: u16,
}

impl Discovery {
    /// Where a server is. Whether it is there is another question.
    pub(crate) async fn find(&self, server: &ServerName) -> Place {
        if let Some(place) = self.at_once(server) {
            return place;
        }
        match self.well_known.of(server.host()).await {
            Ok(delegated) => match self.at_once(&delegated) {
                Some(place) => place,
                None => self.by_name(delegated.host()).await,
            },
            Err(_) => self.by_name(server.host()).await,
        }
    }

    /// Where a server is whose name says it: an address, or a host with a port.
    pub(crate) fn at_once(&self, server: &ServerName) -> Option<Place> {
        let host = server.host();
        let port = match server.port() {
            None if is_literal(host) => self.port,
            port => port?,
        };
        Some(Place {
            base: format!("https://{host}:{port}"),
            host: server.as_str().to_owned(),
            by_service: false,
        })
    }

    /// Where the server of a host is that has said no more: by its SRV records, else at the usual port.
    pub(crate) async fn by_name(&self, host: &str) -> Place {
        // A failing DNS says as little of services as one that knows none.
        let services = services_of(&*self.names, host)
            .await
            .unwrap_or_else(|reason| {
                tracing::debug!(reason, "SRV records can't be looked up");
                Vec::new()
            });
        let by_service = !services.is_empty();
        Place {
            // Without a port, that of the record is taken.
            base: match by_service {
                true => format!("https://{host}"),
                false => format!("https://{host}:{}", self.port),
            },
            host: host.to_owned(),
            by_service,
        }
    }
}

/// Whether a host is an address rather than a name.
pub(crate) fn is_literal(host: &str) -> bool {
    let inner = host.trim_start_matches('[').trim_end_matches(']');
    inner.parse::<IpAddr>().is_ok()
}
