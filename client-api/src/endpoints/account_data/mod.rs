//! What clients keep on the server for their user.

mod delete_tag;
mod get_global;
mod get_room;
mod get_tags;
mod set_global;
mod set_room;
mod set_tag;

use axum::Router;
use ruma::api::error::ErrorKind;

use crate::{ApiError, ClientApi, Result, route};

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

/// Nothing isn't taken for an empty object, as it would be elsewhere: what is kept would be lost by a mistake.
fn check_body(body: &[u8]) -> Result<()> {
    match body.is_empty() {
        true => Err(ApiError::new(
            ErrorKind::NotJson,
            "the body is what is to be kept, a JSON object",
        )),
        false => Ok(()),
    }
}
