//! Who may use the admin API.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use parley_client_api::{ApiError, ClientAddress, Result, access_token};
use parley_engine::{Engine, sessions::Session};
use ruma::api::error::ErrorKind;

/// The request came from an administrator of this server: this one.
pub(crate) struct Administrator(pub(crate) Arc<Session>);

impl FromRequestParts<Engine> for Administrator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self> {
        let token = access_token(parts)
            .ok_or_else(|| ApiError::new(ErrorKind::MissingToken, "an access token is required"))?;
        let address = parts.extensions.get::<ClientAddress>();
        let address = address.map(|address| address.0);
        let session = engine.sessions().authenticate(&token, address).await?;
        session.must_be_admin()?;
        Ok(Self(session))
    }
}
