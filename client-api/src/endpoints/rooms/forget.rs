//! `POST /_matrix/client/v3/rooms/{roomId}/forget`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidforget>

use parley_engine::limits::Action;
use ruma::api::client::membership::forget_room::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

/// Suspended users may forget as they may leave.
pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    api.engine.limits().check(Action::Write, session.user_nid)?;
    api.engine
        .rooms()
        .forget(session, &incoming.room_id)
        .await?;
    Ok(Response::new())
}
