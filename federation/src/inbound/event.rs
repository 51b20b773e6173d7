//! `GET /_matrix/federation/v1/event/{eventId}`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1eventeventid>

use ruma::api::federation::event::get_event::v1::{Request, Response};

use super::Signed;
use crate::{Federation, error::Result};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let engine = federation.engine();
    let event = engine
        .rooms()
        .event_for_server(&signed.origin, &signed.event_id)
        .await?;
    let own = engine.settings().server_name.clone();
    Ok(Response::new(own, engine.clock().now(), event))
}
