//! Logging in and out.

mod flows;
mod log_in;
mod logout;
mod logout_all;
mod refresh;

use axum::Router;
use parley_engine::EngineError;
use ruma::api::error::ErrorKind;

use crate::{ApiError, ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, flows::handle);
    let router = route(router, log_in::handle);
    let router = route(router, logout::handle);
    let router = route(router, logout_all::handle);
    route(router, refresh::handle)
}

/// Refuses who claims to be an application service: there is none of that token.
pub(crate) fn unknown_appservice(token: Option<&str>) -> ApiError {
    match token {
        Some(_) => {
            EngineError::unknown_token(false, "the access token belongs to no application service")
                .into()
        }
        None => ApiError::new(
            ErrorKind::MissingToken,
            "the access token of an application service is required",
        ),
    }
}
