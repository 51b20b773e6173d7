//! `PUT /_matrix/client/v3/devices/{deviceId}`: <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3devicesdeviceid>

use axum::body::Body;
use http::{Response, StatusCode, header};
use parley_engine::limits::Action;
use ruma::api::client::device::update_device::v3::Request;

use crate::{ClientApi, Incoming, RawResponse, Result};

/// Not by ruma's response, which is always a 200.
pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawResponse> {
    let session = &incoming.session;
    api.engine.limits().check(Action::Write, session.user_nid)?;
    let devices = api.engine.devices();
    let Request {
        device_id,
        display_name,
        ..
    } = &incoming.request;
    let made = match display_name {
        // Application services make devices that way.
        name if session.appservice.is_some() => {
            devices.make(session, device_id, name.as_deref()).await?
        }
        Some(name) => {
            devices
                .rename(session.user_nid, &session.user_id, device_id, name)
                .await?;
            false
        }
        // Nothing to change, but only of a device that is there.
        None => {
            devices.get(session.user_nid, device_id).await?;
            false
        }
    };
    let mut response = Response::new(Body::from("{}"));
    if made {
        *response.status_mut() = StatusCode::CREATED;
    }
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(RawResponse(response))
}
