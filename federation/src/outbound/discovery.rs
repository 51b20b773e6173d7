//! From the name of a server to where it is.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>

use std::{fmt, net::IpAddr, sync::Arc};

use parley_engine::clock::Clock;
use quick_cache::sync::Cache;
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

/// Hosts that are remembered to have no SRV records, and for how long, in milliseconds. Many domains' name servers don't say
/// how long that holds, so it would be asked with each request, and each would wait where an answer is lost.
const REMEMBERED: usize = 10_000;
const WITHOUT_SERVICES_MS: i64 = 5 * 60 * 1_000;

/// Finds servers.
#[derive(Clone, Debug)]
pub(crate) struct Discovery {
    pub(crate) names: Arc<dyn Names>,
    pub(crate) well_known: Arc<WellKnown>,
    pub(crate) connections: Connections,
    /// The port of servers that name none.
    pub(crate) port: u16,
    pub(crate) without_services: WithoutServices,
}

/// Hosts without SRV records.
#[derive(Clone)]
pub(crate) struct WithoutServices {
    clock: Arc<dyn Clock>,
    /// Until when it's remembered of a host.
    hosts: Arc<Cache<String, i64>>,
}

impl WithoutServices {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            hosts: Arc::new(Cache::new(REMEMBERED)),
        }
    }

    fn has(&self, host: &str) -> bool {
        let until = self.hosts.get(host);
        until.is_some_and(|until| self.clock.now_ms() < until)
    }

    fn add(&self, host: &str) {
        let until = self.clock.now_ms().saturating_add(WITHOUT_SERVICES_MS);
        self.hosts.insert(host.to_owned(), until);
    }
}

impl fmt::Debug for WithoutServices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "WithoutServices({})", self.hosts.len())
    }
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
        let by_service = !self.without_services.has(host) && self.has_services(host).await;
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

    /// Whether a host has SRV records; it's remembered if not.
    async fn has_services(&self, host: &str) -> bool {
        match services_of(&*self.names, host).await {
            Ok(services) => {
                if services.is_empty() {
                    self.without_services.add(host);
                }
                !services.is_empty()
            }
            // A failing DNS says as little of services as one that knows none.
            Err(reason) => {
                tracing::debug!(reason, "SRV records can't be looked up");
                false
            }
        }
    }

    /// Forgets what was found of a host, to look anew.
    pub(crate) fn forget(&self, host: &str) {
        self.well_known.forget(host);
        self.without_services.hosts.remove(host);
    }
}

/// Whether a host is an address rather than a name.
pub(crate) fn is_literal(host: &str) -> bool {
    let inner = host.trim_start_matches('[').trim_end_matches(']');
    inner.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use parley_engine::clock::ManualClock;

    use super::*;
    use crate::outbound::{
        addresses::AddressFilter,
        names::{Answer, Service},
    };

    /// Names without records, and how often services were asked for.
    #[derive(Debug, Default)]
    struct Nothing(AtomicUsize);

    impl Names for Nothing {
        fn addresses<'a>(&'a self, _: &'a str) -> Answer<'a, IpAddr> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn services<'a>(&'a self, _: &'a str) -> Answer<'a, Service> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(Vec::new()) })
        }
    }

    #[tokio::test]
    async fn that_a_host_has_no_services_is_remembered_for_a_while() {
        let names = Arc::new(Nothing::default());
        let clock = Arc::new(ManualClock::new(0));
        let resolver: Arc<dyn Names> = names.clone();
        let filter = AddressFilter::new(&[]);
        let connections = Connections::new(&resolver, filter, &[]).unwrap();
        let well_known = WellKnown::new(connections.clone(), clock.clone(), 443);
        let discovery = Discovery {
            names: resolver,
            well_known: Arc::new(well_known),
            connections,
            port: 8448,
            without_services: WithoutServices::new(clock.clone()),
        };
        let ask = async || {
            let place = discovery.by_name("a.example").await;
            assert_eq!(place.base, "https://a.example:8448");
            names.0.load(Ordering::SeqCst)
        };
        assert_eq!((ask().await, ask().await), (2, 2));
        clock.advance(Duration::from_secs(300));
        assert_eq!((ask().await, ask().await), (4, 4));
        discovery.forget("a.example");
        assert_eq!(ask().await, 6);
    }
}
