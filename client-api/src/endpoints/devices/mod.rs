//! The devices of a user.

mod delete;
mod delete_many;
mod get;
mod list;
mod update;

use axum::Router;
use ruma::api::client::device::Device;
use serde_json::{Value, json};

use crate::{ClientApi, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, list::handle);
    let router = route(router, get::handle);
    let router = route(router, update::handle);
    let router = route(router, delete::handle);
    route(router, delete_many::handle)
}

/// A device as JSON; ruma's type says `null` where there is no name or address.
fn shown(device: &Device) -> Value {
    json!({
        "device_id": device.device_id,
        "display_name": device.display_name,
        "last_seen_ip": device.last_seen_ip,
        "last_seen_ts": device.last_seen_ts,
    })
}
