//! Who is typing.

mod set_typing;

use axum::Router;

use crate::{ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    route(router, set_typing::handle)
}
