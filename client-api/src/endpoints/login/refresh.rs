//! `POST /_matrix/client/v3/refresh`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3refresh>

use parley_engine::limits::Action;
use ruma::api::client::session::refresh_token::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    incoming.limit_by_address(&api, Action::Login)?;
    let devices = api.engine.devices();
    let refreshed = devices.refresh(&incoming.refresh_token).await?;
    let mut response = Response::new(refreshed.access_token);
    response.refresh_token = refreshed.refresh_token;
    response.expires_in_ms = refreshed.expires_in;
    Ok(response)
}
