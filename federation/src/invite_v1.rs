//! `PUT /_matrix/federation/v1/invite/{roomId}/{eventId}`, as servers send it that know room versions 1 and 2 only.
//!
//! Ruma's types read the invitation as something else than an event, and leave out a level of the answer.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1inviteroomideventid>

use http::{HeaderValue, header};
use ruma::{
    OwnedEventId, OwnedRoomId,
    api::{
        BytesBody, IncomingRequest, IncomingResponse, Metadata, OutgoingRequest, OutgoingResponse,
        error::{DeserializationError, Error, IntoHttpError},
        federation::authentication::ServerSignatures,
    },
    metadata,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An invitation.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) room_id: OwnedRoomId,
    pub(crate) event_id: OwnedEventId,
    /// The event, with what the user is shown of the room in `unsigned`.
    pub(crate) event: Box<RawValue>,
}

/// The invitation, signed by the invited user's server too.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) event: Box<RawValue>,
}

/// What the answer is wrapped in, beside the number 200.
#[derive(Deserialize, Serialize)]
struct Wrapped {
    event: Box<RawValue>,
}

metadata! {
    method: PUT,
    rate_limited: false,
    authentication: ServerSignatures,
    path: "/_matrix/federation/v1/invite/{room_id}/{event_id}",
}

impl Request {
    /// The events that the user is shown of the room.
    pub(crate) fn room_state(&self) -> Vec<Box<RawValue>> {
        #[derive(Deserialize)]
        struct Event {
            unsigned: Option<Unsigned>,
        }
        #[derive(Deserialize)]
        struct Unsigned {
            #[serde(default)]
            invite_room_state: Vec<Box<RawValue>>,
        }
        let event: Option<Event> = serde_json::from_str(self.event.get()).ok();
        let unsigned = event.and_then(|event| event.unsigned);
        unsigned.map_or_else(Vec::new, |unsigned| unsigned.invite_room_state)
    }

    /// An invitation with what the user is shown of the room.
    ///
    /// # Errors
    /// If the event is no object.
    pub(crate) fn showing(
        room_id: OwnedRoomId,
        event_id: OwnedEventId,
        event: &RawValue,
        room_state: &[Box<RawValue>],
    ) -> serde_json::Result<Self> {
        let mut fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(event.get())?;
        let unsigned = serde_json::json!({ "invite_room_state": room_state });
        fields.insert("unsigned".to_owned(), unsigned);
        Ok(Self {
            room_id,
            event_id,
            event: serde_json::value::to_raw_value(&fields)?,
        })
    }
}

/// The ids in the path of an invitation, which are the same in either version.
pub(crate) fn ids(path: &[&str]) -> Result<(OwnedRoomId, OwnedEventId), DeserializationError> {
    let part = |index: usize| path.get(index).copied().unwrap_or_default();
    Ok((part(0).try_into()?, part(1).try_into()?))
}

impl IncomingRequest for Request {
    type EndpointError = Error;
    type OutgoingResponse = Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let (room_id, event_id) = ids(path)?;
        Ok(Self {
            room_id,
            event_id,
            event: serde_json::from_slice(request.body())?,
        })
    }
}

impl OutgoingRequest for Request {
    type Body = BytesBody;
    type EndpointError = Error;
    type IncomingResponse = Response;

    fn try_into_http_request_inner(
        self,
        base_url: &str,
        (): (),
    ) -> Result<http::Request<BytesBody>, IntoHttpError> {
        let path: [&dyn std::fmt::Display; 2] = [&self.room_id, &self.event_id];
        let url = Self::make_endpoint_url((), base_url, &path, "")?;
        let body = BytesBody(self.event.get().as_bytes().to_vec());
        Ok(http::Request::builder()
            .method(Self::METHOD)
            .uri(url)
            .header(header::CONTENT_TYPE, JSON)
            .body(body)?)
    }
}

impl IncomingResponse for Response {
    type EndpointError = Error;

    fn try_from_http_response_inner(
        response: http::Response<&[u8]>,
    ) -> Result<Self, DeserializationError> {
        let (_, wrapped): (u16, Wrapped) = serde_json::from_slice(response.body())?;
        Ok(Self {
            event: wrapped.event,
        })
    }
}

impl OutgoingResponse for Response {
    type Body = BytesBody;

    fn try_into_http_response_inner(self) -> Result<http::Response<BytesBody>, IntoHttpError> {
        let wrapped = Wrapped { event: self.event };
        let body = BytesBody(serde_json::to_vec(&(200, wrapped))?);
        Ok(http::Response::builder()
            .header(header::CONTENT_TYPE, JSON)
            .body(body)?)
    }
}
