//! `GET /_matrix/client/v3/account/whoami`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3accountwhoami>

use parley_engine::sessions::AccountKind;
use ruma::api::client::account::whoami::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(_: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    let is_guest = session.kind == AccountKind::Guest;
    let mut response = Response::new(session.user_id.clone(), is_guest);
    response.device_id = session.device_id.clone();
    Ok(response)
}
