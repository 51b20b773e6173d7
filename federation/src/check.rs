//! What can be seen of another server from here, in plain words.

use parley_engine::remote::RemoteError;
use ruma::{
    ServerName, UserId,
    api::{
        error::ErrorKind,
        federation::{discovery::get_server_version, query::get_profile_information},
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    Federation,
    outbound::{
        client::Effort,
        discovery::{Place, is_literal},
        http::{addresses, services_of},
    },
};

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Nothing is wrong with it, but it says something.
    Note,
    /// It keeps the servers from speaking with each other.
    Bad,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// A sentence for an administrator.
    pub text: String,
}

/// What was found, in the order in which it was looked at.
#[derive(Debug, Default)]
struct Report(Vec<Finding>);

impl Report {
    fn add(&mut self, verdict: Verdict, text: impl Into<String>) {
        let text = text.into();
        self.0.push(Finding { verdict, text });
    }

    fn good(&mut self, text: impl Into<String>) {
        self.add(Verdict::Good, text);
    }

    fn note(&mut self, text: impl Into<String>) {
        self.add(Verdict::Note, text);
    }

    fn bad(&mut self, text: impl Into<String>) {
        self.add(Verdict::Bad, text);
    }
}

impl Federation {
    /// Looks whether a server can be found, reached, and trusted, and whether it trusts this one. It may be this one: then it
    /// is looked at as others see it.
    pub async fn check(&self, server: &ServerName) -> Vec<Finding> {
        let mut report = Report::default();
        let client = self.client();
        let is_own = client.own_name() == server;
        if !self.policy().allows(server) {
            report.bad(format!(
                "this server doesn't federate with {server}: see [federation] in the configuration"
            ));
        }
        let place = self.check_name(server, &mut report).await;
        self.check_addresses(&place, &mut report).await;
        if self.check_answer(server, &place, &mut report).await {
            self.check_keys(server, &mut report).await;
            if !is_own && self.policy().allows(server) {
                self.check_signature(server, &mut report).await;
            }
        }
        report.0
    }

    async fn check_name(&self, server: &ServerName, report: &mut Report) -> Place {
        let discovery = self.client().discovery();
        if let Some(place) = discovery.at_once(server) {
            report.note("the name says where the server is; nothing else is looked up");
            return place;
        }
        let host = server.host();
        discovery.forget(host);
        let mut name = host.to_owned();
        match discovery.well_known.of(host).await {
            Ok(delegated) => {
                report.good(format!(
                    "https://{host}/.well-known/matrix/server says that the server is {delegated}"
                ));
                if let Some(place) = discovery.at_once(&delegated) {
                    return place;
                }
                name = delegated.host().to_owned();
            }
            Err(reason) => report.note(format!(
                "https://{host}/.well-known/matrix/server says nothing ({reason}), so the name itself is looked up"
            )),
        }
        discovery.forget(&name);
        match services_of(&*discovery.names, &name).await {
            Ok(services) => {
                for service in &services {
                    report.good(format!(
                        "an SRV record of {name} leads to {} at port {}",
                        service.target, service.port
                    ));
                }
                if services.is_empty() {
                    report.note(format!("{name} has no SRV record, so port 8448 is tried"));
                }
            }
            Err(reason) => report.note(format!("{reason}, so port 8448 is tried")),
        }
        discovery.by_name(&name).await
    }

    async fn check_addresses(&self, place: &Place, report: &mut Report) {
        let discovery = self.client().discovery();
        let names = &*discovery.names;
        let host = host_of(&place.base);
        if is_literal(host) {
            return;
        }
        let hosts = match place.by_service {
            false => vec![host.to_owned()],
            true => {
                let services = services_of(names, host).await.unwrap_or_default();
                services.into_iter().map(|service| service.target).collect()
            }
        };
        for host in hosts {
            match addresses(names, &discovery.connections.filter, &host, 0).await {
                Ok(found) => {
                    let found: Vec<String> = found
                        .iter()
                        .map(|address| address.ip().to_string())
                        .collect();
                    report.good(format!("{host} is at {}", found.join(", ")));
                }
                Err(reason) => report.bad(reason),
            }
        }
    }

    /// Whether there is an answer.
    async fn check_answer(&self, server: &ServerName, place: &Place, report: &mut Report) -> bool {
        let request = get_server_version::v1::Request::new();
        match self.client().probe(server, request, Effort::STEP).await {
            Ok(answer) => {
                let version = answer.server.unwrap_or_default();
                let name = version
                    .name
                    .unwrap_or_else(|| "an unnamed program".to_owned());
                let version = version.version.unwrap_or_default();
                report.good(format!(
                    "{} answers: {name} {version}. Its certificate for {} is trusted",
                    place.base,
                    host_of(&place.base)
                ));
                true
            }
            Err(RemoteError::Refused { status, .. }) => {
                report.bad(format!(
                    "{} answers with status {status} where it should tell its version: is that a Matrix server?",
                    place.base
                ));
                false
            }
            Err(error) => {
                report.bad(format!("{}: {error}", place.base));
                false
            }
        }
    }

    async fn check_keys(&self, server: &ServerName, report: &mut Report) {
        match self.keys().ask_server(server).await {
            Ok(published) => {
                let now = self.engine().clock().now();
                let valid = published.keys.values().filter(|key| key.valid_until >= now);
                match valid.count() {
                    0 => report
                        .bad("its keys are signed correctly, but none of them is valid any more"),
                    count => report.good(format!(
                        "its keys are signed correctly; {count} of them valid"
                    )),
                }
            }
            Err(reason) => report.bad(format!("its keys can't be used: {reason}")),
        }
    }

    /// Asks for something that only a signed request gets: of somebody whom nobody knows.
    async fn check_signature(&self, server: &ServerName, report: &mut Report) {
        let Ok(nobody) = UserId::parse(format!("@parley-federation-check:{server}")) else {
            return;
        };
        let request = get_profile_information::v1::Request::new(nobody);
        let answer = self.client().send(server, request, Effort::STEP).await;
        let accepted = format!(
            "{server} accepts requests that this server signs, so it reaches this server's keys"
        );
        match answer {
            Ok(_) => report.good(accepted),
            Err(RemoteError::Refused { kind, .. })
                if kind == ErrorKind::NotFound || kind == ErrorKind::Forbidden =>
            {
                report.good(accepted);
            }
            Err(RemoteError::Refused {
                status: 401,
                message,
                ..
            }) => report.bad(format!(
                "{server} doesn't accept what this server signs ({message}): \
                 does it reach this server? Check this server's own name on another machine"
            )),
            Err(error) => report.bad(format!("a signed request isn't answered: {error}")),
        }
    }
}

fn host_of(base: &str) -> &str {
    let authority = base.trim_start_matches("https://");
    match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => authority,
    }
}
