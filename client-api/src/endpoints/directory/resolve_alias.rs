//! `GET /_matrix/client/v3/directory/room/{roomAlias}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3directoryroomroomalias>

use ruma::api::client::alias::get_alias::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let alias = &incoming.room_alias;
    incoming.limit_asking(&api, alias.server_name())?;
    let (room_id, servers) = api.engine.rooms().resolve_alias(alias, false).await?;
    Ok(Response::new(room_id, servers))
}
