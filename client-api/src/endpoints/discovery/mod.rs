//! What the server is and can do.

mod capabilities;
mod rtc_transports;
mod versions;
mod well_known_client;
mod well_known_server;
mod well_known_support;

use axum::Router;

use crate::{ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, versions::handle);
    let router = route(router, capabilities::handle);
    let router = route(router, well_known_client::handle);
    let router = route(router, well_known_server::handle);
    let router = route(router, well_known_support::handle);
    route(router, rtc_transports::handle)
}
