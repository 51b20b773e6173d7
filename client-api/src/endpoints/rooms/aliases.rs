//! `GET /_matrix/client/v3/rooms/{roomId}/aliases`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidaliases>

use ruma::api::client::room::aliases::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let rooms = api.engine.rooms();
    let aliases = rooms.aliases(&incoming.session, &incoming.room_id).await?;
    Ok(Response::new(aliases))
}
