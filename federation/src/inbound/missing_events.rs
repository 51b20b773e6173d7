//! `POST /_matrix/federation/v1/get_missing_events/{roomId}`: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid>

use parley_engine::rooms::federation::serve::Gap;
use ruma::api::federation::event::get_missing_events::v1::{Request, Response};

use super::Signed;
use crate::{Federation, error::Result};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let rooms = federation.engine().rooms();
    let Signed { request, origin } = signed;
    let gap = Gap {
        earliest: request.earliest_events,
        latest: request.latest_events,
        limit: usize::try_from(request.limit).unwrap_or(usize::MAX),
        min_depth: request.min_depth.into(),
    };
    let events = rooms.missing_for(&origin, &request.room_id, gap).await?;
    Ok(Response::new(events))
}
