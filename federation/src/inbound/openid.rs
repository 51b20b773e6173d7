//! `GET /_matrix/federation/v1/openid/userinfo`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1openiduserinfo>

use axum::{
    Json,
    extract::{Query, State},
};
use ruma::api::error::ErrorKind;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Federation,
    error::{FederationError, Result},
};

/// The token in question.
#[derive(Deserialize)]
pub(crate) struct Parameters {
    access_token: Option<String>,
}

/// Tells whoever has a user's token who the user is. It takes no signature: third parties ask, not servers.
pub(crate) async fn userinfo(
    State(federation): State<Federation>,
    Query(Parameters { access_token }): Query<Parameters>,
) -> Result<Json<Value>> {
    let token = access_token.ok_or_else(|| {
        FederationError::new(ErrorKind::MissingToken, "`access_token` is missing")
    })?;
    let user_id = federation.engine().accounts().openid_user(&token).await?;
    Ok(Json(json!({ "sub": user_id })))
}
