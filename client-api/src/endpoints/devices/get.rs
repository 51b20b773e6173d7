//! `GET /_matrix/client/v3/devices/{deviceId}`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3devicesdeviceid>

use ruma::api::client::device::get_device::v3::Request;

use crate::{ClientApi, Incoming, RawJson, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let devices = api.engine.devices();
    let user_nid = incoming.session.user_nid;
    let device = devices.get(user_nid, &incoming.device_id).await?;
    Ok(RawJson::without_nulls(super::shown(&device)))
}
