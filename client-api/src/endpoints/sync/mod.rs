//! What changed.

mod stream;
mod v3;
mod writer;

use axum::Router;

use crate::{ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    route(router, v3::handle)
}
