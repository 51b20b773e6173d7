//! `GET /_matrix/federation/v1/backfill/{roomId}`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid>

use ruma::api::federation::backfill::get_backfill::v1::{Request, Response};

use super::Signed;
use crate::{Federation, error::Result};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let engine = federation.engine();
    let Signed { request, origin } = signed;
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    let events = engine
        .rooms()
        .backfill_for(&origin, &request.room_id, request.v, limit)
        .await?;
    let own = engine.settings().server_name.clone();
    Ok(Response::new(own, engine.clock().now(), events))
}
