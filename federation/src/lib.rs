//! The server-server API: what other servers and third parties ask of this one.

mod error;
mod inbound;

use axum::{Router, routing::get};
use parley_engine::Engine;

/// The endpoints of the server-server API. To be merged with those of the other APIs.
pub fn router(engine: Engine) -> Router {
    Router::new()
        .route(
            "/_matrix/federation/v1/openid/userinfo",
            get(inbound::openid::userinfo),
        )
        .with_state(engine)
}
