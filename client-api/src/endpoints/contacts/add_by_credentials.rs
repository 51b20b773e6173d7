//! `POST /_matrix/client/v3/account/3pid`, deprecated:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3account3pid>

use http::StatusCode;
use ruma::{
    api::{
        IncomingRequest,
        auth_scheme::AccessToken,
        client::account::add_3pid,
        error::{DeserializationError, ErrorKind},
    },
    metadata,
};

use crate::{ApiError, ClientApi, Incoming, RawJson, Result};

/// Addresses by the word of an identity server. Ruma has no type for it any more.
#[derive(Debug)]
pub(super) struct Request;

metadata! {
    method: POST,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        1.0 => "/_matrix/client/r0/account/3pid",
        1.1 => "/_matrix/client/v3/account/3pid",
    }
}

impl IncomingRequest for Request {
    type EndpointError = ruma::api::error::Error;
    type OutgoingResponse = add_3pid::v3::Response;

    fn try_from_http_request_inner(
        _: http::Request<&[u8]>,
        _: &[&str],
    ) -> Result<Self, DeserializationError> {
        Ok(Self)
    }
}

pub(super) async fn handle(_: ClientApi, _: Incoming<Request>) -> Result<RawJson> {
    Err(ApiError::with_status(
        StatusCode::FORBIDDEN,
        ErrorKind::ThreepidAuthFailed,
        "this server trusts no identity server",
    ))
}
