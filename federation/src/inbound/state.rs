//! `GET /_matrix/federation/v1/state/{roomId}`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1stateroomid>

use ruma::api::federation::event::get_room_state::v1::{Request, Response};

use super::Signed;
use crate::{Federation, error::Result};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let rooms = federation.engine().rooms();
    let state = rooms
        .state_for_server(&signed.origin, &signed.room_id, &signed.event_id)
        .await?;
    Ok(Response::new(state.auth_chain, state.state))
}
