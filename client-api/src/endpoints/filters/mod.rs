//! Stored filters.

mod create;
mod get;

use axum::Router;

use crate::{ClientApi, endpoints::check_own, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, create::handle);
    route(router, get::handle)
}
