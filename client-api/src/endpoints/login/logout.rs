//! `POST /_matrix/client/v3/logout`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3logout>

use ruma::api::client::session::logout::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    api.engine.devices().log_out(&incoming.session).await?;
    Ok(Response::new())
}
