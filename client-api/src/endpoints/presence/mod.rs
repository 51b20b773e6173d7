//! Who is online.

mod get_presence;
mod set_presence;

use axum::Router;

use crate::{ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, get_presence::handle);
    route(router, set_presence::handle)
}
