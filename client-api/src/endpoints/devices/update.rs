//! `PUT /_matrix/client/v3/devices/{deviceId}`: <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3devicesdeviceid>

use parley_engine::limits::Action;
use ruma::api::client::device::update_device::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    api.engine.limits().check(Action::Write, session.user_nid)?;
    let devices = api.engine.devices();
    match &incoming.display_name {
        Some(name) => {
            devices
                .rename(
                    session.user_nid,
                    &session.user_id,
                    &incoming.device_id,
                    name,
                )
                .await?;
        }
        // Nothing to change, but only of a device that is there.
        None => {
            devices.get(session.user_nid, &incoming.device_id).await?;
        }
    }
    Ok(Response::new())
}
