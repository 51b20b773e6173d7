//! `PUT /_matrix/federation/v1/send_knock/{roomId}/{eventId}`: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1send_knockroomideventid>

use parley_engine::rooms::federation::serve::SentMember;
use ruma::{
    api::federation::membership::{
        RawStrippedState,
        create_knock_event::v1::{Request, Response},
    },
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
    let (room, _) = rooms.take_membership(sent, MembershipState::Knock).await?;
    let shown = rooms.shown_to_outsiders(&room).await?;
    Ok(Response::new(
        shown.into_iter().map(RawStrippedState::Pdu).collect(),
    ))
}
