//! `GET /_matrix/client/unstable/org.matrix.msc4140/delayed_events`

use parley_engine::limits::Action;
use ruma::{
    api::{
        IncomingRequest, auth_scheme::AccessToken, client::discovery::discover_homeserver,
        error::DeserializationError,
    },
    metadata,
};
use serde_json::{Value, json};

use super::shown;
use crate::{ClientApi, Incoming, RawJson, Result};

/// What has one scheduled?
#[derive(Debug)]
pub(super) struct Request;

metadata! {
    method: GET,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.matrix.msc4140/delayed_events",
}

impl IncomingRequest for Request {
    type EndpointError = ruma::api::error::Error;
    /// What is answered is another; ruma wants a type of its own kind here.
    type OutgoingResponse = discover_homeserver::Response;

    fn try_from_http_request_inner(
        _: http::Request<&[u8]>,
        _: &[&str],
    ) -> Result<Self, DeserializationError> {
        Ok(Self)
    }
}

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let user_nid = incoming.session.user_nid;
    let limits = api.engine.limits();
    limits.check(Action::DelayedEvents, user_nid)?;
    let events = api.engine.delayed_events().scheduled(user_nid).await?;
    let events: Vec<Value> = events.iter().map(shown).collect::<Result<_>>()?;
    let answer = json!({ "delayed_events": events });
    Ok(RawJson(answer.to_string().into()))
}
