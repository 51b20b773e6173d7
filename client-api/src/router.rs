//! All endpoints of the client-server API, and what every answer of the server has in common.

use std::time::Duration;

use axum::Router;
use http::{HeaderName, Method, StatusCode, header};
use ruma::api::error::ErrorKind;
use tower_http::cors::{Any, CorsLayer};

use crate::{ApiError, ClientApi, endpoints};

/// How long a browser may remember that requests from other origins are allowed.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The endpoints of the client-server API. To be merged with those of the other APIs and then given to [`finish`].
pub fn router(api: ClientApi) -> Router {
    let router = Router::new();
    let router = endpoints::discovery::routes(router);
    let router = endpoints::directory::routes(router);
    let router = endpoints::rooms::routes(router);
    let router = endpoints::delayed_events::routes(router);
    let router = endpoints::accounts::routes(router);
    let router = endpoints::login::routes(router);
    let router = endpoints::contacts::routes(router);
    let router = endpoints::administration::routes(router);
    let router = endpoints::users::routes(router);
    let router = endpoints::devices::routes(router);
    let router = endpoints::profiles::routes(router);
    let router = endpoints::filters::routes(router);
    let router = endpoints::sync::routes(router);
    let router = endpoints::receipts::routes(router);
    let router = endpoints::typing::routes(router);
    let router = endpoints::calls::routes(router);
    let router = endpoints::presence::routes(router);
    let router = endpoints::account_data::routes(router);
    let router = endpoints::push::routes(router);
    router.with_state(api)
}

/// Adds what all APIs have in common: errors for unknown paths and methods, access for web clients of any origin
/// (<https://spec.matrix.org/v1.19/client-server-api/#web-browser-clients>).
///
/// Has to be called after all routes were merged.
pub fn finish(router: Router) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::OPTIONS,
        ])
        .allow_headers([
            HeaderName::from_static("x-requested-with"),
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
        ])
        .max_age(PREFLIGHT_MAX_AGE);
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(cors)
}

async fn unknown_path() -> ApiError {
    ApiError::new(ErrorKind::Unrecognized, "this server has no such endpoint")
}

async fn unknown_method() -> ApiError {
    ApiError::with_status(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::Unrecognized,
        "this endpoint doesn't have that method",
    )
}
