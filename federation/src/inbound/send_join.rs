//! `PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}`: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid>

use parley_engine::rooms::federation::serve::SentMember;
use ruma::api::federation::membership::create_join_event::v2::{Request, Response, RoomState};

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
    let joined = rooms.take_join(sent, signed.omit_members).await?;
    let mut state = RoomState::new();
    state.event = joined.event;
    state.state = joined.state;
    state.auth_chain = joined.auth_chain;
    state.members_omitted = joined.members_omitted;
    if joined.members_omitted {
        let servers = joined.servers_in_room.iter();
        state.servers_in_room = Some(servers.map(ToString::to_string).collect());
    }
    Ok(Response::new(state))
}
