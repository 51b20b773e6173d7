//! `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1event_authroomideventid>

use ruma::api::federation::authorization::get_event_authorization::v1::{Request, Response};

use super::Signed;
use crate::{Federation, error::Result};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let rooms = federation.engine().rooms();
    let chain = rooms
        .event_auth(&signed.origin, &signed.room_id, &signed.event_id)
        .await?;
    Ok(Response::new(chain))
}
