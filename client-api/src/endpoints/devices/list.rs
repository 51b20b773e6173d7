//! `GET /_matrix/client/v3/devices`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3devices>

use ruma::api::client::device::get_devices::v3::Request;
use serde_json::{Value, json};

use crate::{ClientApi, Incoming, RawJson, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let devices = api.engine.devices().list(incoming.session.user_nid).await?;
    let devices: Vec<Value> = devices.iter().map(super::shown).collect();
    // With what isn't known as `null`: matrix-nio takes no list in which a name or an address is missing, and no client
    // minds.
    Ok(RawJson(json!({ "devices": devices }).to_string().into()))
}
