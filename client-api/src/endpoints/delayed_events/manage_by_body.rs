//! `POST /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}`, as the clients of today know it

use parley_engine::EngineError;
use ruma::{
    api::{
        IncomingRequest, auth_scheme::AccessTokenOptional, client::discovery::discover_homeserver,
        error::DeserializationError,
    },
    metadata,
};
use serde::Deserialize;

use super::manage::{manage, management};
use crate::{ClientApi, Incoming, RawJson, Result};

/// What is to be done with what.
#[derive(Debug)]
pub(super) struct Request {
    delay_id: String,
    action: Option<String>,
}

metadata! {
    method: POST,
    rate_limited: true,
    authentication: AccessTokenOptional,
    path: "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}",
}

impl IncomingRequest for Request {
    type EndpointError = ruma::api::error::Error;
    /// What is answered is another; ruma wants a type of its own kind here.
    type OutgoingResponse = discover_homeserver::Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        #[derive(Deserialize)]
        struct Body {
            action: Option<String>,
        }
        let body: Body = serde_json::from_slice(request.body())?;
        let delay_id = path.first().copied().unwrap_or_default().to_owned();
        Ok(Self {
            delay_id,
            action: body.action,
        })
    }
}

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let missing = || EngineError::missing_param("`action` is required");
    let unknown = || EngineError::invalid_param("`action` is send, cancel or restart");
    let action = incoming.action.as_deref().ok_or_else(missing)?;
    let management = management(action).ok_or_else(unknown)?;
    let delay_id = &incoming.delay_id;
    let session = incoming.session.as_ref();
    manage(&api, session, incoming.address, delay_id, management).await
}
