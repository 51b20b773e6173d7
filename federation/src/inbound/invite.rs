//! `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid>

use parley_engine::rooms::federation::invite::SentInvite;
use ruma::api::federation::membership::create_invite::v2::{Request, Response};

use super::Signed;
use crate::{Federation, error::Result};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let rooms = federation.engine().rooms();
    let Signed { request, origin } = signed;
    // Whole events, or stripped ones of older servers.
    let room_state: Vec<_> = request
        .invite_room_state
        .iter()
        .filter_map(|event| serde_json::value::to_raw_value(event).ok())
        .collect();
    let sent = SentInvite {
        origin: &origin,
        room_id: &request.room_id,
        event_id: &request.event_id,
        version: Some(&request.room_version),
        event: &request.event,
        room_state: &room_state,
    };
    Ok(Response::new(rooms.take_invite(sent).await?))
}
