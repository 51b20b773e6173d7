//! What the server is and can do.

mod capabilities;
mod versions;
mod well_known;

use axum::Router;

use crate::{ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, versions::handle);
    let router = route(router, capabilities::handle);
    route(router, well_known::handle)
}
