//! `POST /_matrix/client/v3/join/{roomIdOrAlias}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3joinroomidoralias>

use parley_engine::limits::Action;
use ruma::api::client::membership::join_room_by_id_or_alias::v3::{Request, Response};

use super::{member_content, named_room};
use crate::{ClientApi, Incoming, Result, endpoints::admit};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    admit(&api, &incoming.session, Action::Join)?;
    let details = member_content::of_join(&incoming.body, incoming.reason.clone())?;
    let (room_id, mut via) = named_room(&api, &incoming.room_id_or_alias, true).await?;
    via.extend(incoming.via.iter().cloned());
    let rooms = api.engine.rooms();
    if let Some(invite) = member_content::invite_by_address(&incoming.body, &room_id)? {
        rooms.accept_invite(&incoming.session, &invite).await?;
    }
    let room_id = rooms
        .join(&incoming.session, &room_id, &via, &details)
        .await?;
    Ok(Response::new(room_id))
}
