//! `POST /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delayId}/{action}`

use std::sync::Arc;

use parley_engine::{delayed_events::Management, limits::Action, sessions::Session};
use ruma::{
    api::{
        IncomingRequest,
        auth_scheme::AccessTokenOptional,
        client::discovery::discover_homeserver,
        error::{DeserializationError, ErrorKind},
    },
    metadata,
};

use crate::{ApiError, ClientApi, Incoming, RawJson, Result};

/// What is to be done with what.
#[derive(Debug)]
pub(super) struct Request {
    delay_id: String,
    action: String,
}

metadata! {
    method: POST,
    rate_limited: true,
    authentication: AccessTokenOptional,
    path: "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}/{action}",
}

impl IncomingRequest for Request {
    type EndpointError = ruma::api::error::Error;
    /// What is answered is another; ruma wants a type of its own kind here.
    type OutgoingResponse = discover_homeserver::Response;

    fn try_from_http_request_inner(
        _: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let part = |index: usize| path.get(index).copied().unwrap_or_default().to_owned();
        Ok(Self {
            delay_id: part(0),
            action: part(1),
        })
    }
}

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let unknown = || ApiError::new(ErrorKind::Unrecognized, "there is no such action");
    let management = management(&incoming.action).ok_or_else(unknown)?;
    let delay_id = &incoming.delay_id;
    let session = incoming.session.as_ref();
    manage(&api, session, incoming.address, delay_id, management).await
}

/// What an action is called.
pub(super) fn management(action: &str) -> Option<Management> {
    Some(match action {
        "send" => Management::Send,
        "cancel" => Management::Cancel,
        "restart" => Management::Restart,
        _ => return None,
    })
}

/// Does it, for whoever knows the event's name: that is told to services which see, say, the connections of a call.
pub(super) async fn manage(
    api: &ClientApi,
    session: Option<&Arc<Session>>,
    address: Option<std::net::IpAddr>,
    delay_id: &str,
    management: Management,
) -> Result<RawJson> {
    let limits = api.engine.limits();
    match (session, address) {
        (Some(session), _) => limits.check(Action::DelayedEvents, session.user_nid)?,
        (None, Some(address)) => limits.check(Action::DelayedEvents, address)?,
        (None, None) => {}
    }
    let events = api.engine.delayed_events();
    events.manage(delay_id, management).await?;
    Ok(RawJson("{}".into()))
}
