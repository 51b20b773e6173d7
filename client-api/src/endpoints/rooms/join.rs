//! `POST /_matrix/client/v3/rooms/{roomId}/join`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidjoin>

use parley_engine::limits::Action;
use ruma::api::client::membership::join_room_by_id::v3::{Request, Response};

use super::member_content;
use crate::{ClientApi, Incoming, Result, endpoints::admit};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    admit(&api, &incoming.session, Action::Join)?;
    let details = member_content::of_join(&incoming.body, incoming.reason.clone())?;
    let rooms = api.engine.rooms();
    if let Some(invite) = member_content::invite_by_address(&incoming.body, &incoming.room_id)? {
        rooms.accept_invite(&incoming.session, &invite).await?;
    }
    let room_id = rooms
        .join(&incoming.session, &incoming.room_id, &[], &details)
        .await?;
    Ok(Response::new(room_id))
}
