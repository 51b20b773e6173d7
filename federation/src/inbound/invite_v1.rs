//! `PUT /_matrix/federation/v1/invite/{roomId}/{eventId}`: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1inviteroomideventid>

use parley_engine::rooms::federation::invite::SentInvite;

use super::Signed;
use crate::{
    Federation,
    error::Result,
    invite_v1::{Request, Response},
};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let rooms = federation.engine().rooms();
    let room_state = signed.room_state();
    let sent = SentInvite {
        origin: &signed.origin,
        room_id: &signed.room_id,
        event_id: &signed.event_id,
        version: None,
        event: &signed.event,
        room_state: &room_state,
    };
    let event = rooms.take_invite(sent).await?;
    Ok(Response { event })
}
