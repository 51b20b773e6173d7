//! `PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}`, as it is sent: ruma's type leaves the room out of the
//! body, where other servers look for it.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1exchange_third_party_inviteroomid>

use http::{HeaderValue, header};
use ruma::{
    OwnedRoomId,
    api::{
        BytesBody, Metadata, OutgoingRequest,
        error::{Error, IntoHttpError},
        federation::{authentication::ServerSignatures, thirdparty::exchange_invite::v1::Response},
    },
    metadata,
};
use serde_json::value::RawValue;

/// An invitation to be exchanged.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) room_id: OwnedRoomId,
    /// The beginnings of a member event.
    pub(crate) event: Box<RawValue>,
}

metadata! {
    method: PUT,
    rate_limited: false,
    authentication: ServerSignatures,
    path: "/_matrix/federation/v1/exchange_third_party_invite/{room_id}",
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
        let url = Self::make_endpoint_url((), base_url, &[&self.room_id], "")?;
        let json = HeaderValue::from_static("application/json");
        Ok(http::Request::builder()
            .method(Self::METHOD)
            .uri(url)
            .header(header::CONTENT_TYPE, json)
            .body(BytesBody(self.event.get().as_bytes().to_vec()))?)
    }
}
