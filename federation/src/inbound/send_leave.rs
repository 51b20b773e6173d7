//! `PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId}`: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_leaveroomideventid>

use parley_engine::rooms::federation::serve::SentMember;
use ruma::{
    api::federation::membership::create_leave_event::v2::{Request, Response},
    events::room::member::MembershipState,
};

use super::Signed;
use crate::{Federation, error::Result};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let rooms = federation.engine().rooms();
    let sent = SentMember {
        origin: &signed.origin,
        room_id: &signed.room_id,
        event_id: &signed.event_id,
        event: &signed.pdu,
    };
    rooms.take_membership(sent, MembershipState::Leave).await?;
    Ok(Response::new())
}
