//! `POST /_matrix/client/v3/knock/{roomIdOrAlias}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3knockroomidoralias>

use parley_engine::limits::Action;
use ruma::api::client::knock::knock_room::v3::{Request, Response};

use super::named_room;
use crate::{ClientApi, Incoming, Result, endpoints::admit};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    admit(&api, &incoming.session, Action::Join)?;
    let (room_id, mut via) = named_room(&api, &incoming.room_id_or_alias, true).await?;
    via.extend(incoming.via.iter().cloned());
    let room_id = api
        .engine
        .rooms()
        .knock(&incoming.session, &room_id, &via, incoming.reason.clone())
        .await?;
    Ok(Response::new(room_id))
}
