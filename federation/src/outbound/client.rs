//! Requests to other servers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, header};
use metrics::counter;
use parley_engine::remote::RemoteError;
use parley_protocol::ServerKey;
use ruma::{
    ServerName,
    api::{
        IncomingResponseExt, OutgoingRequest, OutgoingRequestExt,
        auth_scheme::{AuthScheme, NoAuthentication},
        error::{Error, ErrorBody, ErrorKind, FromHttpResponseError},
        federation::authentication::{ServerSignatures, XMatrixSigningInput},
        path_builder::PathBuilder,
    },
};

use super::{
    destinations::{Destination, Destinations},
    discovery::{Discovery, Place},
    http::{ReadError, check_literal, describe, read},
    transport::Transport,
};
use crate::policy::Policy;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What a request may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// For the whole of it, from the first byte to the last. As long may it wait for its turn before that.
    pub(crate) timeout: Duration,
    /// Of the answer, in bytes.
    pub(crate) max_size: usize,
    /// Whether it is tried although the server has failed lately: somebody waits for the answer.
    pub(crate) although_failing: bool,
    /// Whether anybody can have this server make it, to servers of any name: how it goes isn't stored then, unless something
    /// else was asked of the server.
    pub(crate) for_anybody: bool,
}

impl Effort {
    /// A question with a small answer.
    pub(crate) const QUERY: Self = Self {
        timeout: Duration::from_secs(30),
        max_size: 4 * MIB,
        although_failing: false,
        for_anybody: false,
    };
    /// A step that a user has asked for and waits for.
    pub(crate) const STEP: Self = Self {
        timeout: Duration::from_secs(60),
        max_size: 4 * MIB,
        although_failing: true,
        for_anybody: false,
    };
    /// Events by the hundred.
    pub(crate) const EVENTS: Self = Self {
        timeout: Duration::from_secs(60),
        max_size: 32 * MIB,
        although_failing: false,
        for_anybody: false,
    };
    /// The state of a room that may be huge.
    pub(crate) const STATE: Self = Self {
        timeout: Duration::from_secs(10 * 60),
        max_size: 256 * MIB,
        although_failing: true,
        for_anybody: false,
    };
    /// A published key.
    pub(crate) const KEYS: Self = Self {
        timeout: Duration::from_secs(15),
        max_size: 32 * KIB,
        although_failing: false,
        for_anybody: true,
    };
    /// What a notary says of the keys of others.
    pub(crate) const VOUCHED: Self = Self {
        max_size: 4 * MIB,
        ..Self::KEYS
    };
    /// A policy server's signature. Meanwhile the room waits.
    pub(crate) const POLICY: Self = Self {
        timeout: Duration::from_secs(10),
        max_size: 64 * KIB,
        although_failing: false,
        for_anybody: false,
    };
    /// A transaction.
    pub(crate) const TRANSACTION: Self = Self {
        timeout: Duration::from_secs(120),
        max_size: MIB,
        although_failing: false,
        for_anybody: false,
    };
}

/// A way of authentication of this API, with what it needs.
pub(crate) trait Signing: AuthScheme {
    fn input<'a>(key: &'a ServerKey, destination: &ServerName) -> Self::Input<'a>;
}

impl Signing for NoAuthentication {
    fn input<'a>(_: &'a ServerKey, _: &ServerName) -> Self::Input<'a> {}
}

impl Signing for ServerSignatures {
    fn input<'a>(key: &'a ServerKey, destination: &ServerName) -> Self::Input<'a> {
        let origin = key.server_name().to_owned();
        XMatrixSigningInput::new(origin, destination.to_owned(), key.pair())
    }
}

/// A request of this API.
pub(crate) trait FederationRequest:
    OutgoingRequest<
        Authentication: Signing,
        PathBuilder: for<'a> PathBuilder<Input<'a> = ()>,
        EndpointError = Error,
    > + Send
{
}

impl<R> FederationRequest for R where
    R: OutgoingRequest<
            Authentication: Signing,
            PathBuilder: for<'a> PathBuilder<Input<'a> = ()>,
            EndpointError = Error,
        > + Send
{
}

/// The one way to other servers. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    key: Arc<ServerKey>,
    discovery: Discovery,
    /// In place of the network.
    transport: Option<Arc<dyn Transport>>,
    destinations: Destinations,
    policy: Policy,
}

impl Client {
    pub(crate) fn new(
        key: Arc<ServerKey>,
        discovery: Discovery,
        transport: Option<Arc<dyn Transport>>,
        destinations: Destinations,
        policy: Policy,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                key,
                discovery,
                transport,
                destinations,
                policy,
            }),
        }
    }

    /// How servers are found.
    pub(crate) fn discovery(&self) -> &Discovery {
        &self.inner.discovery
    }

    /// How it goes with them.
    pub(crate) fn destinations(&self) -> &Destinations {
        &self.inner.destinations
    }

    /// The name of this server.
    pub(crate) fn own_name(&self) -> &ServerName {
        self.inner.key.server_name()
    }

    /// Asks another server.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub(crate) async fn send<R: FederationRequest>(
        &self,
        destination: &ServerName,
        request: R,
        effort: Effort,
    ) -> Result<R::IncomingResponse, RemoteError>
    where
        R::IncomingResponse: ruma::api::IncomingResponse<EndpointError = Error>,
    {
        understand::<R>(self.fetch(destination, request, effort).await?)
    }

    /// Asks a server, whichever, whatever is known of it. Nothing is remembered of how it went.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub(crate) async fn probe<R: FederationRequest>(
        &self,
        destination: &ServerName,
        request: R,
        effort: Effort,
    ) -> Result<R::IncomingResponse, RemoteError>
    where
        R::IncomingResponse: ruma::api::IncomingResponse<EndpointError = Error>,
    {
        let attempt = self.inner.attempt(destination, request, effort);
        let answer = tokio::time::timeout(effort.timeout, attempt).await;
        understand::<R>(answer.map_err(|_| too_late())??)
    }

    /// Asks another server; the answer as it came, whatever it says.
    ///
    /// # Errors
    /// See [`RemoteError`]; a refusal is none here.
    pub(crate) async fn fetch<R: FederationRequest>(
        &self,
        destination: &ServerName,
        request: R,
        effort: Effort,
    ) -> Result<Response<Bytes>, RemoteError> {
        let (entry, answer) = self.ask(destination, request, effort).await?;
        if !answer.status().is_server_error() {
            let destinations = &self.inner.destinations;
            destinations.succeeded(destination, &entry).await;
        }
        Ok(answer)
    }

    /// Sends a transaction. Only a server that takes it counts as reached: of one that refuses each, it would else be
    /// forgotten each time how often it did.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub(crate) async fn deliver<R: FederationRequest>(
        &self,
        destination: &ServerName,
        request: R,
    ) -> Result<R::IncomingResponse, RemoteError>
    where
        R::IncomingResponse: ruma::api::IncomingResponse<EndpointError = Error>,
    {
        let sent = self.ask(destination, request, Effort::TRANSACTION).await;
        let (entry, answer) = sent?;
        let answer = understand::<R>(answer)?;
        let destinations = &self.inner.destinations;
        destinations.succeeded(destination, &entry).await;
        Ok(answer)
    }

    /// Asks another server, and remembers if it fails. Whether its answer says that it is well, the caller judges.
    async fn ask<R: FederationRequest>(
        &self,
        destination: &ServerName,
        request: R,
        effort: Effort,
    ) -> Result<(Arc<Destination>, Response<Bytes>), RemoteError> {
        self.inner.check(destination)?;
        let entry = self.inner.destinations.get(destination).await;
        if !effort.for_anybody {
            entry.note();
        }
        if !effort.although_failing && self.inner.destinations.pause(destination).await > 0 {
            let reason = entry.health().last_error.clone().unwrap_or_default();
            return Err(RemoteError::Unreachable(format!(
                "{reason}; it is left alone for a while"
            )));
        }
        let result = {
            // What is of this server's own making says nothing of the other, and takes nothing from its time. The semaphore
            // is never closed.
            let slot = tokio::time::timeout(effort.timeout, entry.slots.acquire()).await;
            let _slot = slot.map_err(|_| {
                RemoteError::Unreachable("it is asked too much at once already".to_owned())
            })?;
            let attempt = self.inner.attempt(destination, request, effort);
            let answer = tokio::time::timeout(effort.timeout, attempt).await;
            answer.unwrap_or_else(|_| Err(too_late()))
        };
        let destinations = &self.inner.destinations;
        match &result {
            Ok(answer) if answer.status().is_server_error() => {
                let reason = format!("it answered with status {}", answer.status());
                destinations.failed(destination, &entry, &reason).await;
                count("server_error");
            }
            Ok(_) => count("answered"),
            Err(RemoteError::Unreachable(reason)) => {
                destinations.failed(destination, &entry, reason).await;
                count("unreachable");
            }
            Err(_) => count("nonsense"),
        }
        Ok((entry, result?))
    }
}

fn count(outcome: &'static str) {
    counter!("parley_federation_outgoing_requests_total", "outcome" => outcome).increment(1);
}

impl Inner {
    fn check(&self, destination: &ServerName) -> Result<(), RemoteError> {
        if destination == self.key.server_name() {
            return Err(RemoteError::Nonsense(
                "that is this server itself".to_owned(),
            ));
        }
        match self.policy.allows(destination) {
            true => Ok(()),
            false => Err(RemoteError::NotAllowed),
        }
    }

    async fn attempt<R: FederationRequest>(
        &self,
        destination: &ServerName,
        request: R,
        effort: Effort,
    ) -> Result<Response<Bytes>, RemoteError> {
        if let Some(transport) = &self.transport {
            let request = self.sign(destination, request, &format!("https://{destination}"))?;
            return transport.carry(destination, request).await;
        }
        let place = self.discovery.find(destination).await;
        let request = self.sign(destination, request, &place.base)?;
        let answer = self.execute(&place, request).await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = read(answer, effort.max_size)
            .await
            .map_err(|error| match error {
                ReadError::TooLarge(limit) => {
                    RemoteError::Nonsense(format!("it has more than {limit} bytes"))
                }
                ReadError::Broken(reason) => RemoteError::Unreachable(reason),
            })?;
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    fn sign<R: FederationRequest>(
        &self,
        destination: &ServerName,
        request: R,
        base: &str,
    ) -> Result<http::Request<Vec<u8>>, RemoteError> {
        let input = <R::Authentication as Signing>::input(&self.key, destination);
        request
            .try_into_http_request(base, input, ())
            .map_err(|error| RemoteError::Nonsense(error.to_string()))
    }

    async fn execute(
        &self,
        place: &Place,
        request: http::Request<Vec<u8>>,
    ) -> Result<reqwest::Response, RemoteError> {
        let nonsense = |error: &dyn std::error::Error| RemoteError::Nonsense(error.to_string());
        let mut request = reqwest::Request::try_from(request).map_err(|error| nonsense(&error))?;
        let connections = &self.discovery.connections;
        check_literal(&connections.filter, request.url()).map_err(RemoteError::Unreachable)?;
        let host = place.host.parse().map_err(|_| {
            RemoteError::Nonsense("the server's name is no value of a header".to_owned())
        })?;
        request.headers_mut().insert(header::HOST, host);
        let client = match place.by_service {
            true => &connections.services,
            false => &connections.direct,
        };
        let answer = client.execute(request).await;
        answer.map_err(|error| RemoteError::Unreachable(describe(&error)))
    }
}

fn too_late() -> RemoteError {
    RemoteError::Unreachable("no answer in time".to_owned())
}

/// Reads an answer by ruma's type.
fn understand<R: FederationRequest>(
    answer: Response<Bytes>,
) -> Result<R::IncomingResponse, RemoteError>
where
    R::IncomingResponse: ruma::api::IncomingResponse<EndpointError = Error>,
{
    let (parts, body) = answer.into_parts();
    let answer = Response::from_parts(parts, body.as_ref());
    R::IncomingResponse::try_from_http_response(answer).map_err(|error| match error {
        FromHttpResponseError::Server(error) => refusal(error),
        error => RemoteError::Nonsense(error.to_string()),
    })
}

/// What another server said instead of an answer.
pub(super) fn refusal(error: Error) -> RemoteError {
    let status = error.status_code.as_u16();
    if error.status_code.is_server_error() {
        return RemoteError::Unreachable(format!("it answered with status {}", error.status_code));
    }
    match error.body {
        ErrorBody::Standard(body) => RemoteError::Refused {
            kind: body.kind,
            status,
            message: body.message,
        },
        _ => RemoteError::Refused {
            kind: ErrorKind::Unknown,
            status,
            message: format!("it answered with status {}", error.status_code),
        },
    }
}

#[cfg(test)]
mod tests {
    use parley_engine::clock::timestamp;
    use ruma::{
        TransactionId,
        api::federation::{discovery::get_server_version, transactions::send_transaction_message},
        server_name,
    };

    use super::*;
    use crate::outbound::testing::{NOW, Way, answer};

    async fn deliver(way: &Way, server: &ServerName) -> Result<(), RemoteError> {
        let id = <&TransactionId>::from("1").to_owned();
        let own = way.client.own_name().to_owned();
        let request = send_transaction_message::v1::Request::new(id, own, timestamp(NOW));
        way.client.deliver(server, request).await.map(drop)
    }

    #[tokio::test]
    async fn only_a_transaction_that_is_taken_ends_the_failures_of_a_server() {
        let way = Way::open().await;
        let server = server_name!("a.example");
        let entry = way.client.destinations().get(server).await;
        let failures = || entry.health().failures;
        let (destinations, unreached) = (way.client.destinations(), "refused");
        destinations.failed(server, &entry, unreached).await;
        for (status, body) in [
            (403, "{}"),
            (404, "nothing"),
            (200, "nonsense"),
            (200, "{}"),
        ] {
            way.line.answer(move |_, _| answer(status, body));
            way.clock.advance(Duration::from_secs(60));
            deliver(&way, server).await.unwrap_err();
            assert_eq!(failures(), 1, "{status}");
        }
        way.line.answer(|_, _| answer(200, r#"{"pdus":{}}"#));
        deliver(&way, server).await.unwrap();
        assert_eq!((way.line.carried(), failures()), (5, 0));
        // Of a question, any answer says that the server is there.
        destinations.failed(server, &entry, unreached).await;
        way.clock.advance(Duration::from_secs(60));
        way.line.answer(|_, _| answer(404, "{}"));
        let request = get_server_version::v1::Request::new();
        let asked = way.client.send(server, request, Effort::QUERY).await;
        asked.unwrap_err();
        assert_eq!(failures(), 0);
    }

    #[tokio::test]
    async fn a_server_is_not_taken_for_failing_because_this_one_asks_too_much_of_it() {
        let way = Way::open().await;
        let server = server_name!("a.example");
        way.line.answer(|_, _| answer(200, "{}"));
        let entry = way.client.destinations().get(server).await;
        let slots = u32::try_from(entry.slots.available_permits()).unwrap();
        let all = entry.slots.acquire_many(slots).await.unwrap();
        let ask = async |timeout| {
            let request = get_server_version::v1::Request::new();
            let effort = Effort {
                timeout,
                ..Effort::QUERY
            };
            way.client.send(server, request, effort).await
        };
        let refused = ask(Duration::from_millis(1)).await.unwrap_err();
        assert!(refused.to_string().contains("too much"), "{refused}");
        assert_eq!((way.line.carried(), entry.health().failures), (0, 0));
        drop(all);
        ask(Duration::from_secs(60)).await.unwrap();
    }
}
