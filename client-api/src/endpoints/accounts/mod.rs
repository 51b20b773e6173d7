//! Accounts: registering, the password, the end.

mod available;
mod deactivate;
mod fallback;
mod password;
mod register;
mod registration_token;
mod whoami;

use axum::{Router, routing::get};
use ruma::api::{Metadata, client::uiaa::get_uiaa_fallback_page, path_builder::PathBuilder};

use crate::{ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, register::handle);
    let router = route(router, available::handle);
    let router = route(router, registration_token::handle);
    let router = route(router, whoami::handle);
    let router = route(router, password::handle);
    let router = fallback_pages(router);
    route(router, deactivate::handle)
}

/// The pages have no type of ruma's for what is sent by their forms.
fn fallback_pages(router: Router<ClientApi>) -> Router<ClientApi> {
    let paths = get_uiaa_fallback_page::v3::Request::PATH_BUILDER.all_paths();
    paths.fold(router, |router, path| {
        router.route(path, get(fallback::show).post(fallback::submit))
    })
}
