//! Connections to other servers, and what limits them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use rand::RngExt;
use reqwest::{
    Response,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use url::{Host, Url};

use super::{
    addresses::AddressFilter,
    names::{MAX_RECORDS, Names, Service},
};

/// How long it may take to connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may fall silent within an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection is kept that nothing is sent on.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Of one host.
const IDLE_CONNECTIONS: usize = 4;
/// Of a file under `/.well-known/`.
const MAX_REDIRECTS: usize = 5;

/// The authorities that the system trusts, read once.
static SYSTEM: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| {
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        tracing::warn!(%error, "authorities that the system trusts can't be read");
    }
    if loaded.certs.is_empty() {
        tracing::warn!(
            "the system trusts no authority; install ca-certificates, or set federation.ca_file"
        );
    }
    loaded.certs
});

/// Why there is no way to connect at all.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct SetupError(pub(crate) String);

/// The ways to connect: of each, what a host's name stands for.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    /// The addresses of the host; the port is in the URL.
    pub(crate) direct: reqwest::Client,
    /// What the SRV records of the host name, with their ports.
    pub(crate) services: reqwest::Client,
    /// As `direct`, with redirects: for what isn't sent to servers.
    pub(crate) web: reqwest::Client,
    pub(crate) filter: Arc<AddressFilter>,
}

impl Connections {
    pub(crate) fn new(
        names: &Arc<dyn Names>,
        filter: AddressFilter,
        authorities: &[CertificateDer<'static>],
    ) -> Result<Self, SetupError> {
        let filter = Arc::new(filter);
        let tls = tls(authorities)?;
        let build = |services: bool, redirects: Policy| {
            let resolver = FilteringResolver {
                names: Arc::clone(names),
                filter: Arc::clone(&filter),
                services,
            };
            reqwest::Client::builder()
                .user_agent(concat!("Parley/", env!("CARGO_PKG_VERSION")))
                .tls_backend_preconfigured(tls.clone())
                .https_only(true)
                .http1_only()
                .no_proxy()
                .dns_resolver(resolver)
                .redirect(redirects)
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                .build()
                .map_err(|error| SetupError(describe(&error)))
        };
        Ok(Self {
            direct: build(false, Policy::none())?,
            services: build(true, Policy::none())?,
            web: build(false, redirects(Arc::clone(&filter)))?,
            filter,
        })
    }
}

fn tls(authorities: &[CertificateDer<'static>]) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(SYSTEM.iter().cloned());
    for authority in authorities {
        roots
            .add(authority.clone())
            .map_err(|error| SetupError(format!("an authority can't be trusted: {error}")))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SetupError(error.to_string()))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Follows a few, to addresses that may be connected to. Names are looked at when they are resolved.
fn redirects(filter: Arc<AddressFilter>) -> Policy {
    Policy::custom(move |attempt| {
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error("too many redirects");
        }
        if attempt.previous().contains(attempt.url()) {
            return attempt.error("a loop of redirects");
        }
        if check_literal(&filter, attempt.url()).is_err() {
            return attempt.error("a redirect to an address that may not be connected to");
        }
        attempt.follow()
    })
}

/// Refuses an address that may not be connected to, where a URL holds one instead of a name.
pub(crate) fn check_literal(filter: &AddressFilter, url: &Url) -> Result<(), String> {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        _ => return Ok(()),
    };
    match filter.allows(address) {
        true => Ok(()),
        false => Err(forbidden(&[address])),
    }
}

fn forbidden(addresses: &[IpAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!(
        "{} may not be connected to (federation.permitted_networks)",
        addresses.join(", ")
    )
}

/// Resolves names to addresses that may be connected to.
struct FilteringResolver {
    names: Arc<dyn Names>,
    filter: Arc<AddressFilter>,
    services: bool,
}

impl fmt::Debug for FilteringResolver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FilteringResolver({:?})", self.names)
    }
}

impl Resolve for FilteringResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, filter) = (Arc::clone(&self.names), Arc::clone(&self.filter));
        let services = self.services;
        Box::pin(async move {
            let found = match services {
                true => service_addresses(&*names, &filter, name.as_str()).await,
                // The port is that of the URL.
                false => addresses(&*names, &filter, name.as_str(), 0).await,
            };
            match found {
                Ok(found) => Ok(Box::new(found.into_iter()) as Addrs),
                Err(reason) => Err(reason.into()),
            }
        })
    }
}

/// The addresses of a host that may be connected to.
pub(crate) async fn addresses(
    names: &dyn Names,
    filter: &AddressFilter,
    host: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, String> {
    let found = match host.parse() {
        // The target of a service should be a name, but then it might not be.
        Ok(address) => vec![address],
        Err(_) => names
            .addresses(host)
            .await
            .map_err(|error| format!("{host} can't be looked up: {error}"))?,
    };
    if found.is_empty() {
        return Err(format!("{host} has no address"));
    }
    let allowed: Vec<SocketAddr> = found
        .iter()
        .filter(|address| filter.allows(**address))
        .map(|address| SocketAddr::new(*address, port))
        .collect();
    match allowed.is_empty() {
        true => Err(format!("{host} leads to {}", forbidden(&found))),
        false => Ok(allowed),
    }
}

/// The services of a host, those first that are to be tried first: of `_matrix-fed._tcp`, else of `_matrix._tcp`.
pub(crate) async fn services_of(names: &dyn Names, host: &str) -> Result<Vec<Service>, String> {
    for prefix in ["_matrix-fed._tcp", "_matrix._tcp"] {
        let name = format!("{prefix}.{host}");
        let services = names.services(&name).await;
        let services = services.map_err(|error| format!("{name} can't be looked up: {error}"))?;
        if !services.is_empty() {
            return Ok(in_order(services));
        }
    }
    Ok(Vec::new())
}

/// By priority; of one priority at random, the heavier the likelier (RFC 2782).
fn in_order(services: Vec<Service>) -> Vec<Service> {
    let mut keyed: Vec<(u16, f64, Service)> = services
        .into_iter()
        .map(|service| {
            let weight = f64::from(service.weight).max(0.1);
            let draw: f64 = rand::rng().random_range(f64::EPSILON..1.0);
            (service.priority, -draw.ln() / weight, service)
        })
        .collect();
    keyed.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
    keyed.into_iter().map(|(_, _, service)| service).collect()
}

async fn service_addresses(
    names: &dyn Names,
    filter: &AddressFilter,
    host: &str,
) -> Result<Vec<SocketAddr>, String> {
    let mut found = Vec::new();
    let mut problem = format!("{host} has no SRV record");
    for service in services_of(names, host).await? {
        if service.target.is_empty() {
            // RFC 2782: "the service is decidedly not available at this domain".
            problem = format!("an SRV record of {host} says that there is no such service");
            continue;
        }
        match addresses(names, filter, &service.target, service.port).await {
            Ok(addresses) => found.extend(addresses),
            Err(reason) => problem = reason,
        }
        if found.len() >= MAX_RECORDS {
            break;
        }
    }
    match found.is_empty() {
        true => Err(problem),
        false => Ok(found),
    }
}

/// Why the whole of an answer wasn't read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// It is larger than it may be.
    TooLarge(usize),
    /// The connection ended.
    Broken(String),
}

/// Reads the body of an answer, of at most `limit` bytes.
pub(crate) async fn read(mut response: Response, limit: usize) -> Result<Bytes, ReadError> {
    let announced = response.content_length().unwrap_or_default();
    if usize::try_from(announced).is_ok_and(|length| length > limit) {
        return Err(ReadError::TooLarge(limit));
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| ReadError::Broken(describe(&error)))?
    {
        if body.len() + chunk.len() > limit {
            return Err(ReadError::TooLarge(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// An error with what caused it, without the URL, which the reader knows.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        // Each says less than what caused it.
        text = error.to_string();
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(priority: u16, weight: u16, port: u16) -> Service {
        Service {
            priority,
            weight,
            port,
            target: "a.example".to_owned(),
        }
    }

    #[test]
    fn services_are_tried_by_priority_and_then_mostly_by_weight() {
        let mut heavy_first = 0;
        for _ in 0..200 {
            let ordered = in_order(vec![service(2, 9, 1), service(1, 1, 2), service(1, 99, 3)]);
            assert_eq!(ordered[2].port, 1);
            heavy_first += usize::from(ordered[0].port == 3);
        }
        assert!(heavy_first > 150, "{heavy_first}");
    }
}
