//! What clients keep on the server for their user.

mod delete_tag;
mod get_global;
mod get_room;
mod get_tags;
mod set_global;
mod set_room;
mod set_tag;

use axum::Router;

use crate::{ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, get_global::handle);
    let router = route(router, set_global::handle);
    let router = route(router, get_room::handle);
    let router = route(router, set_room::handle);
    let router = route(router, get_tags::handle);
    let router = route(router, set_tag::handle);
    route(router, delete_tag::handle)
}
