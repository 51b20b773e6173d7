//! `GET /_matrix/federation/v1/state_ids/{roomId}`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid>

use ruma::api::federation::event::get_room_state_ids::v1::{Request, Response};

use super::Signed;
use crate::{Federation, error::Result};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let rooms = federation.engine().rooms();
    let ids = rooms
        .state_ids_for(&signed.origin, &signed.room_id, &signed.event_id)
        .await?;
    Ok(Response::new(ids.auth_chain, ids.state))
}
