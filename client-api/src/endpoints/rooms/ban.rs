//! `POST /_matrix/client/v3/rooms/{roomId}/ban`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidban>

use parley_engine::limits::Action;
use ruma::api::client::membership::ban_user::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result, endpoints::admit};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    admit(&api, &incoming.session, Action::Write)?;
    let rooms = api.engine.rooms();
    let reason = incoming.reason.clone();
    rooms
        .ban(
            &incoming.session,
            &incoming.room_id,
            &incoming.user_id,
            reason,
        )
        .await?;
    Ok(Response::new())
}
