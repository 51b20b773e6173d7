//! `GET /_matrix/client/v3/voip/turnServer`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3voipturnserver>

use ruma::api::client::voip::get_turn_server_info::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let credentials = api.engine.turn().credentials(&incoming.session)?;
    Ok(Response::new(
        credentials.username,
        credentials.password,
        credentials.uris,
        credentials.lifetime,
    ))
}
