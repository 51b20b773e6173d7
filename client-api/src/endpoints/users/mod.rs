//! Other users: finding them, and what one has in common with them; and proving to others who one is.

mod mutual_rooms;
mod openid;
mod search;

use axum::Router;
use ruma::api::{Metadata, client::membership::get_mutual_rooms, path_builder::PathBuilder};

use crate::{ClientApi, route, route_at};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, openid::handle);
    let router = route(router, search::handle);
    let router = route(router, mutual_rooms::handle);
    // Where it was before v1.19.
    let old = get_mutual_rooms::unstable::Request::PATH_BUILDER.all_paths();
    old.fold(router, |router, path| {
        route_at(router, path, mutual_rooms::handle)
    })
}
