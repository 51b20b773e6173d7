//! `POST /_matrix/client/v3/rooms/{roomId}/upgrade`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidupgrade>

use parley_engine::{limits::Action, rooms::upgrade::Upgrade};
use ruma::api::client::room::upgrade_room::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result, endpoints::admit};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    admit(&api, &incoming.session, Action::RoomCreation)?;
    let upgrade = Upgrade {
        version: incoming.new_version.clone(),
        additional_creators: incoming.additional_creators.clone(),
    };
    let replacement = api
        .engine
        .rooms()
        .upgrade(&incoming.session, &incoming.room_id, &upgrade)
        .await?;
    Ok(Response::new(replacement))
}
