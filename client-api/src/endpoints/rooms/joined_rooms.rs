//! `GET /_matrix/client/v3/joined_rooms`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3joined_rooms>

use ruma::api::client::membership::joined_rooms::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let rooms = api.engine.rooms().joined_rooms(&incoming.session).await?;
    Ok(Response::new(rooms))
}
