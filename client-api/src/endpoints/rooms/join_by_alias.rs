//! `POST /_matrix/client/v3/join/{roomIdOrAlias}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3joinroomidoralias>

use parley_engine::limits::Action;
use ruma::{
    OwnedRoomAliasId, OwnedRoomId,
    api::client::membership::join_room_by_id_or_alias::v3::{Request, Response},
};

use super::member_content;
use crate::{ClientApi, Incoming, Result, endpoints::admit};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    admit(&api, &incoming.session, Action::Join)?;
    let details = member_content::of_join(&incoming.body, incoming.reason.clone())?;
    let rooms = api.engine.rooms();
    let named: Result<OwnedRoomId, OwnedRoomAliasId> = incoming.room_id_or_alias.clone().try_into();
    let room_id = match named {
        Ok(room_id) => room_id,
        Err(alias) => rooms.resolve_alias(&alias).await?,
    };
    let room_id = rooms.join(&incoming.session, &room_id, &details).await?;
    Ok(Response::new(room_id))
}
