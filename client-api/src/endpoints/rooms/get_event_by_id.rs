//! `GET /_matrix/client/v3/events/{eventId}`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3eventseventid>
//!
//! Deprecated since the first version of the specification, and so not known to ruma.

use ruma::{
    EventId, OwnedEventId,
    api::{
        IncomingRequest, auth_scheme::AccessToken, client::discovery::discover_homeserver,
        error::DeserializationError,
    },
    metadata,
};

use super::get_event::shown;
use crate::{ClientApi, Incoming, RawJson, Result};

/// What does an event say, of whichever room?
#[derive(Debug)]
pub(super) struct Request {
    event_id: OwnedEventId,
}

metadata! {
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        1.0 => "/_matrix/client/r0/events/{event_id}",
        1.1 => "/_matrix/client/v3/events/{event_id}",
    }
}

impl IncomingRequest for Request {
    type EndpointError = ruma::api::error::Error;
    /// What is answered is another; ruma wants a type of its own kind here.
    type OutgoingResponse = discover_homeserver::Response;

    fn try_from_http_request_inner(
        _: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let event_id = EventId::parse(path.first().copied().unwrap_or_default())?;
        Ok(Self { event_id })
    }
}

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let session = &incoming.session;
    let rooms = api.engine.rooms();
    let found = rooms.event_of_any_room(session, &incoming.event_id).await?;
    shown(&api, session, found).await
}
