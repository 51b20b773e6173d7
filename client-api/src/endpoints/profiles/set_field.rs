//! `PUT /_matrix/client/v3/profile/{userId}/{keyName}`: <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3profileuseridkeyname>

use ruma::{
    OwnedUserId,
    api::{
        IncomingRequest, Metadata,
        auth_scheme::AccessToken,
        client::profile::set_profile_field::v3::{self, Response},
        error::{DeserializationError, ErrorKind},
        path_builder::VersionHistory,
    },
};
use serde_json::{Map, Value};

use crate::{ApiError, ClientApi, Incoming, Result};

/// Ruma's request, but with the value as it was sent, which may be null or missing.
pub(super) struct Request {
    user_id: OwnedUserId,
    field: String,
    value: Option<Value>,
}

impl Metadata for Request {
    const METHOD: http::Method = v3::Request::METHOD;
    const RATE_LIMITED: bool = v3::Request::RATE_LIMITED;
    type Authentication = AccessToken;
    type PathBuilder = VersionHistory;
    const PATH_BUILDER: VersionHistory = v3::Request::PATH_BUILDER;
}

impl IncomingRequest for Request {
    type EndpointError = <v3::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let [user_id, field] = path else {
            let error: serde_json::Error = serde::de::Error::custom("the path has two parts");
            return Err(error.into());
        };
        let mut body: Map<String, Value> = serde_json::from_slice(request.body())?;
        Ok(Self {
            user_id: OwnedUserId::try_from(*user_id)?,
            field: (*field).to_owned(),
            value: body.remove(*field),
        })
    }
}

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let Request {
        user_id,
        field,
        value,
    } = &incoming.request;
    let Some(value) = value else {
        return Err(ApiError::new(
            ErrorKind::MissingParam,
            format!("`{field}` is missing"),
        ));
    };
    let profiles = api.engine.profiles();
    profiles
        .set_field(&incoming.session, user_id, field, value)
        .await?;
    Ok(Response::new())
}
