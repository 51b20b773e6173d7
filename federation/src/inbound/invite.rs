//! `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`, by a type of its own: ruma's demands `invite_room_state`, which may
//! be left out, and refuses the whole for one entry that is no object.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid>

use parley_engine::rooms::federation::invite::SentInvite;
use ruma::{
    OwnedEventId, OwnedRoomId, RoomVersionId,
    api::{
        IncomingRequest,
        error::{DeserializationError, Error},
        federation::{authentication::ServerSignatures, membership::create_invite::v2::Response},
    },
    metadata,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Signed;
use crate::{Federation, error::Result, invite_v1::ids};

/// An invitation.
#[derive(Debug)]
pub(super) struct Request {
    room_id: OwnedRoomId,
    event_id: OwnedEventId,
    body: Body,
}

#[derive(Debug, Deserialize)]
struct Body {
    room_version: RoomVersionId,
    event: Box<RawValue>,
    /// Whole events, or stripped ones of older servers.
    invite_room_state: Option<Vec<Box<RawValue>>>,
}

metadata! {
    method: PUT,
    rate_limited: false,
    authentication: ServerSignatures,
    path: "/_matrix/federation/v2/invite/{room_id}/{event_id}",
}

impl IncomingRequest for Request {
    type EndpointError = Error;
    type OutgoingResponse = Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let (room_id, event_id) = ids(path)?;
        Ok(Self {
            room_id,
            event_id,
            body: serde_json::from_slice(request.body())?,
        })
    }
}

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let rooms = federation.engine().rooms();
    let body = &signed.body;
    let sent = SentInvite {
        origin: &signed.origin,
        room_id: &signed.room_id,
        event_id: &signed.event_id,
        version: Some(&body.room_version),
        event: &body.event,
        room_state: body.invite_room_state.as_deref().unwrap_or_default(),
    };
    Ok(Response::new(rooms.take_invite(sent).await?))
}
