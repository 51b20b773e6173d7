//! `GET /_matrix/client/unstable/org.matrix.msc4143/rtc/transports`:
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4143>

use ruma::{
    api::{
        IncomingRequest, auth_scheme::AccessToken, client::discovery::discover_homeserver,
        error::DeserializationError,
    },
    metadata,
};
use serde_json::{Value, json};

use crate::{ClientApi, Incoming, RawJson, Result};

/// Which services carry calls?
#[derive(Debug)]
pub(super) struct Request;

metadata! {
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports",
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

pub(super) async fn handle(api: ClientApi, _: Incoming<Request>) -> Result<RawJson> {
    let answer = json!({ "rtc_transports": transports(&api) });
    Ok(RawJson(answer.to_string().into()))
}

/// The services that carry calls, as clients are told of them; none unless one is configured.
pub(super) fn transports(api: &ClientApi) -> Vec<Value> {
    let url = api.settings.well_known.livekit_service_url.as_deref();
    url.map(|url| json!({ "type": "livekit", "livekit_service_url": url }))
        .into_iter()
        .collect()
}
