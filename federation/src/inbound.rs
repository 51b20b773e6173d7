//! What this server is asked, a file for each endpoint.
//!
//! **Adding an endpoint.** A file here, first line the method and path, with
//! `pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response>`, and a line in
//! [`router`]. Path, method and authentication come from ruma's metadata. A handler decides nothing: it calls one function of
//! the engine.

mod backfill;
mod body;
mod edus;
mod event;
mod event_auth;
mod exchange_invite;
mod get_keys;
mod hierarchy;
mod invite;
mod invite_v1;
mod make_join;
mod make_knock;
mod make_leave;
mod missing_events;
mod on_bind;
mod openid;
mod profile;
mod public_rooms;
mod public_rooms_filtered;
mod query_keys;
mod query_keys_batch;
mod resolve_alias;
mod route;
mod send;
mod send_join;
mod send_knock;
mod send_leave;
mod signed;
mod state;
mod state_ids;
mod timestamp_to_event;
mod version;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use parley_engine::limits::{Action, ClientAddress};

use self::route::{first_version, open, signed};
pub(crate) use self::{body::Intake, signed::Signed};
use crate::{Federation, error::FederationError};

const SEND_JOIN_V1: &str = "/_matrix/federation/v1/send_join/{room_id}/{event_id}";
const SEND_LEAVE_V1: &str = "/_matrix/federation/v1/send_leave/{room_id}/{event_id}";

/// All endpoints.
pub(crate) fn router(federation: Federation) -> Router {
    let router = Router::new()
        .route(
            "/_matrix/federation/v1/openid/userinfo",
            get(openid::userinfo),
        )
        // As servers from before v1.1 of the specification ask, for the key of an id that doesn't matter.
        .route("/_matrix/key/v2/server/{key_id}", get(get_keys::by_id));
    let router = open(router, get_keys::handle);
    let router = open(router, query_keys::handle);
    let router = open(router, query_keys_batch::handle);
    let router = open(router, version::handle);
    let router = open(router, on_bind::handle);
    let router = signed(router, profile::handle);
    let router = signed(router, resolve_alias::handle);
    let router = signed(router, public_rooms::handle);
    let router = signed(router, public_rooms_filtered::handle);
    let router = signed(router, hierarchy::handle);
    let router = signed(router, backfill::handle);
    let router = signed(router, event::handle);
    let router = signed(router, event_auth::handle);
    let router = signed(router, exchange_invite::handle);
    let router = signed(router, invite::handle);
    let router = signed(router, invite_v1::handle);
    let router = signed(router, make_join::handle);
    let router = signed(router, make_knock::handle);
    let router = signed(router, make_leave::handle);
    let router = signed(router, missing_events::handle);
    let router = signed(router, send::handle);
    let router = signed(router, send_join::handle);
    let router = signed(router, send_knock::handle);
    let router = signed(router, send_leave::handle);
    let router = signed(router, state::handle);
    let router = signed(router, state_ids::handle);
    let router = signed(router, timestamp_to_event::handle);
    let router = first_version(router, SEND_JOIN_V1, send_join::handle);
    let router = first_version(router, SEND_LEAVE_V1, send_leave::handle);
    let limited = from_fn_with_state(federation.clone(), limit_by_address);
    router.route_layer(limited).with_state(federation)
}

/// Counts a request of whoever is at its address, before anything is done for it: who it is of is known only after a check
/// that costs something, and anybody can give any name. Without an address nothing is counted.
async fn limit_by_address(
    State(federation): State<Federation>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(ClientAddress(address)) = request.extensions().get() {
        let limits = federation.engine().limits();
        if let Err(error) = limits.check(Action::FederationAddress, *address) {
            return FederationError::from(error).into_response();
        }
    }
    next.run(request).await
}
