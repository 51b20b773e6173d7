//! What clients need for calls.

mod turn_server;

use axum::Router;

use crate::{ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    route(router, turn_server::handle)
}
