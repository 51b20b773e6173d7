//! The admin API, compatible with Synapse's where tools rely on it.

mod administrator;
mod event_reports;
mod override_ratelimit;
mod register;
mod send_server_notice;

use axum::{
    Router,
    routing::{get, post, put},
};
use parley_engine::Engine;

/// The endpoints of the admin API. To be merged with those of the other APIs.
pub fn router(engine: Engine) -> Router {
    Router::new()
        .route(
            "/_synapse/admin/v1/register",
            get(register::nonce).post(register::register),
        )
        .route("/_synapse/admin/v1/event_reports", get(event_reports::list))
        .route(
            "/_synapse/admin/v1/users/{user_id}/override_ratelimit",
            get(override_ratelimit::get)
                .post(override_ratelimit::set)
                .delete(override_ratelimit::remove),
        )
        .route(
            "/_synapse/admin/v1/send_server_notice",
            post(send_server_notice::send),
        )
        .route(
            "/_synapse/admin/v1/send_server_notice/{txn_id}",
            put(send_server_notice::send_once),
        )
        .with_state(engine)
}
