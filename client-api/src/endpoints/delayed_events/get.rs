//! `GET /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}`

use parley_engine::limits::Action;
use ruma::{
    api::{
        IncomingRequest, auth_scheme::AccessToken, client::discovery::discover_homeserver,
        error::DeserializationError,
    },
    metadata,
};

use super::shown;
use crate::{ClientApi, Incoming, RawJson, Result};

/// What has become of it?
#[derive(Debug)]
pub(super) struct Request {
    delay_id: String,
}

metadata! {
    method: GET,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}",
}

impl IncomingRequest for Request {
    type EndpointError = ruma::api::error::Error;
    /// What is answered is another; ruma wants a type of its own kind here.
    type OutgoingResponse = discover_homeserver::Response;

    fn try_from_http_request_inner(
        _: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let delay_id = path.first().copied().unwrap_or_default().to_owned();
        Ok(Self { delay_id })
    }
}

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let session = &incoming.session;
    let limits = api.engine.limits();
    limits.check(Action::DelayedEvents, session.user_nid)?;
    let events = api.engine.delayed_events();
    let event = events.get(session, &incoming.delay_id).await?;
    Ok(RawJson(shown(&event)?.to_string().into()))
}
