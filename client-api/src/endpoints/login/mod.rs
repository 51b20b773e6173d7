//! Logging in and out.

mod fallback;
mod flows;
mod get_token;
mod log_in;
mod logout;
mod logout_all;
mod refresh;

use std::sync::Arc;

use axum::{Router, routing::get};
use parley_engine::{EngineError, appservices::Appservice};
use ruma::api::error::ErrorKind;

use crate::{ApiError, ClientApi, Result, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, flows::handle);
    let router = route(router, log_in::handle);
    let router = route(router, get_token::handle);
    let router = route(router, logout::handle);
    let router = route(router, logout_all::handle);
    let router = route(router, refresh::handle);
    fallback::PATHS.iter().fold(router, |router, path| {
        router.route(path, get(fallback::show))
    })
}

/// The application service that a token belongs to.
///
/// # Errors
/// `M_MISSING_TOKEN`, `M_UNKNOWN_TOKEN`.
pub(crate) fn appservice<'a>(
    api: &'a ClientApi,
    token: Option<&str>,
) -> Result<&'a Arc<Appservice>> {
    let Some(token) = token else {
        return Err(ApiError::new(
            ErrorKind::MissingToken,
            "the access token of an application service is required",
        ));
    };
    api.engine.appservices().by_token(token).ok_or_else(|| {
        EngineError::unknown_token(false, "the access token belongs to no application service")
            .into()
    })
}
