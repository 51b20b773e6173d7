//! Finding rooms: aliases and the room directory.

mod create_alias;
mod delete_alias;
mod get_visibility;
mod public_rooms;
mod public_rooms_filtered;
mod resolve_alias;
mod set_visibility;

use axum::Router;

use crate::{ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, resolve_alias::handle);
    let router = route(router, create_alias::handle);
    let router = route(router, delete_alias::handle);
    let router = route(router, get_visibility::handle);
    let router = route(router, set_visibility::handle);
    let router = route(router, public_rooms::handle);
    route(router, public_rooms_filtered::handle)
}
