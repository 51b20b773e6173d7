//! Accounts: registering, the password, the end.

mod available;
mod deactivate;
mod password;
mod register;
mod registration_token;
mod whoami;

use axum::Router;

use crate::{ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, register::handle);
    let router = route(router, available::handle);
    let router = route(router, registration_token::handle);
    let router = route(router, whoami::handle);
    let router = route(router, password::handle);
    route(router, deactivate::handle)
}
