//! `PUT /_matrix/client/unstable/org.matrix.msc4140/rooms/{roomId}/delayed_event/{eventType}/{txnId}`

use parley_engine::{delayed_events::Wish, limits::Action, sessions::Session};
use ruma::{
    OwnedRoomId, RoomId,
    api::{
        IncomingRequest, auth_scheme::AccessToken, client::discovery::discover_homeserver,
        error::DeserializationError,
    },
    metadata,
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::{ClientApi, Incoming, RawJson, Result, endpoints::admit};

/// What is to be sent where, and when.
#[derive(Debug)]
pub(super) struct Request {
    room_id: OwnedRoomId,
    event_type: String,
    transaction_id: String,
    body: Body,
}

#[derive(Debug, Deserialize)]
struct Body {
    /// In milliseconds, as the present proposal has it.
    delay_ms: Option<i64>,
    /// The same by the name that it had before.
    delay: Option<i64>,
    state_key: Option<String>,
    content: Option<Box<RawValue>>,
}

metadata! {
    method: PUT,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.matrix.msc4140/rooms/{room_id}/delayed_event/{event_type}/{txn_id}",
}

impl IncomingRequest for Request {
    type EndpointError = ruma::api::error::Error;
    /// What is answered is another; ruma wants a type of its own kind here.
    type OutgoingResponse = discover_homeserver::Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let part = |index: usize| path.get(index).copied().unwrap_or_default();
        Ok(Self {
            room_id: part(0).try_into()?,
            event_type: part(1).to_owned(),
            transaction_id: part(2).to_owned(),
            body: serde_json::from_slice(request.body())?,
        })
    }
}

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let Request {
        room_id,
        event_type,
        transaction_id,
        body,
    } = &incoming.request;
    let wish = Wish {
        event_type,
        state_key: body.state_key.as_deref(),
        content: body.content.as_deref(),
        delay: body.delay_ms.or(body.delay).unwrap_or_default(),
        transaction_id: Some(transaction_id),
    };
    schedule(&api, &incoming.session, room_id, wish).await
}

/// Schedules an event and tells the name that it got.
pub(in crate::endpoints) async fn schedule(
    api: &ClientApi,
    session: &Session,
    room_id: &RoomId,
    wish: Wish<'_>,
) -> Result<RawJson> {
    admit(api, session, Action::Message)?;
    let events = api.engine.delayed_events();
    let delay_id = events.schedule(session, room_id, wish).await?;
    let answer = json!({ "delay_id": delay_id });
    Ok(RawJson(answer.to_string().into()))
}
