//! Questions to the DNS.

use std::{fmt, net::IpAddr, time::Duration};

use futures::future::BoxFuture;
use hickory_resolver::{
    TokioResolver,
    net::NetError,
    proto::rr::{RData, RecordType},
};

/// Records of one name that are looked at, at most: who runs a name could name any number.
pub(crate) const MAX_RECORDS: usize = 16;

/// How long an answer is waited for, and how often it's asked. A datagram that is lost shouldn't cost seconds.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 4;

/// The answer to a question, empty if there is no such record.
pub type Answer<'a, T> = BoxFuture<'a, Result<Vec<T>, NameError>>;

/// Why a name couldn't be looked up, in a few words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub String);

/// A record of type SRV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower ones are tried first.
    pub priority: u16,
    /// Of the same priority, a higher one is tried first more often.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The name of the machine.
    pub target: String,
}

/// Who knows names: the DNS, or what a test says.
pub trait Names: fmt::Debug + Send + Sync {
    /// The addresses of a host, IPv6 and IPv4.
    fn addresses<'a>(&'a self, host: &'a str) -> Answer<'a, IpAddr>;

    /// The services behind a name, in any order.
    fn services<'a>(&'a self, name: &'a str) -> Answer<'a, Service>;
}

/// The DNS, by the servers that the system is configured with. Answers are remembered as long as they say.
#[derive(Debug)]
pub(crate) struct Dns(TokioResolver);

impl Dns {
    pub(crate) fn new() -> Result<Self, NameError> {
        let failed = |error: NetError| NameError(error.to_string());
        let mut resolver = TokioResolver::builder_tokio().map_err(failed)?;
        let options = resolver.options_mut();
        options.timeout = TIMEOUT;
        options.attempts = ATTEMPTS;
        Ok(Self(resolver.build().map_err(failed)?))
    }
}

impl Names for Dns {
    fn addresses<'a>(&'a self, host: &'a str) -> Answer<'a, IpAddr> {
        Box::pin(async move {
            match self.0.lookup_ip(absolute(host)).await {
                Ok(found) => Ok(found.iter().take(MAX_RECORDS).collect()),
                Err(error) => none_or_failure(&error),
            }
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> Answer<'a, Service> {
        Box::pin(async move {
            let found = match self.0.lookup(absolute(name), RecordType::SRV).await {
                Ok(found) => found,
                Err(error) => return none_or_failure(&error),
            };
            let records = found
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::SRV(service) => Some(Service {
                        priority: service.priority,
                        weight: service.weight,
                        port: service.port,
                        target: service.target.to_ascii().trim_end_matches('.').to_owned(),
                    }),
                    _ => None,
                });
            Ok(records.take(MAX_RECORDS).collect())
        })
    }
}

/// With the dot that keeps the system's own domains from being tried after it.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

fn none_or_failure<T>(error: &NetError) -> Result<Vec<T>, NameError> {
    if error.is_no_records_found() || error.is_nx_domain() {
        return Ok(Vec::new());
    }
    Err(NameError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_of_the_hosts_file_are_known() {
        let Ok(dns) = Dns::new() else { return };
        let addresses = dns.addresses("localhost").await.unwrap();
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(IpAddr::is_loopback));
    }
}
