//! `GET /_matrix/key/v2/server`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server>

use axum::{Json, extract::State};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue,
    api::federation::discovery::{
        ServerSigningKeys,
        get_server_keys::v2::{Request, Response},
    },
    serde::Raw,
};
use serde_json::value::to_raw_value;

use crate::{
    Federation,
    error::{FederationError, Result},
};

pub(super) async fn handle(federation: Federation, _: Request) -> Result<Response> {
    Ok(Response::new(raw(federation.keys().own().publish())?))
}

/// All keys, whatever the id.
pub(super) async fn by_id(
    State(federation): State<Federation>,
) -> Result<Json<CanonicalJsonValue>> {
    federation.must_be_enabled()?;
    let keys = federation.keys().own().publish();
    Ok(Json(CanonicalJsonValue::Object(keys)))
}

/// Published keys in ruma's type.
pub(super) fn raw(object: CanonicalJsonObject) -> Result<Raw<ServerSigningKeys>> {
    let json = to_raw_value(&object).map_err(|error| {
        FederationError::new(ruma::api::error::ErrorKind::Unknown, error.to_string())
    })?;
    Ok(Raw::from_json(json))
}
