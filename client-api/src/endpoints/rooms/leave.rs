//! `POST /_matrix/client/v3/rooms/{roomId}/leave`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidleave>

use parley_engine::limits::Action;
use ruma::api::client::membership::leave_room::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

/// Suspended users may leave as well.
pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    api.engine.limits().check(Action::Write, session.user_nid)?;
    api.engine
        .rooms()
        .leave(session, &incoming.room_id, incoming.reason.clone())
        .await?;
    Ok(Response::new())
}
