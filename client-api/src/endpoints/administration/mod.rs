//! What administrators may do to accounts, as far as the specification knows it.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#server-administration>

mod lock;
mod suspend;
mod whois;

use axum::Router;

use crate::{ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, whois::handle);
    let router = route(router, lock::get);
    let router = route(router, lock::set);
    let router = route(router, suspend::get);
    route(router, suspend::set)
}
