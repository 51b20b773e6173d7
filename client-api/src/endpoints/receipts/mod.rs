//! Receipts and read markers.

mod create_receipt;
mod read_markers;

use axum::Router;

use crate::{ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, create_receipt::handle);
    route(router, read_markers::handle)
}
