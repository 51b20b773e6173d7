//! `POST /_matrix/federation/v1/publicRooms`: <https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1publicrooms>

use parley_engine::rooms::directory::DirectoryRequest;
use ruma::api::federation::directory::get_public_rooms_filtered::v1::{Request, Response};

use super::{
    Signed,
    public_rooms::{count, describe, limit, page},
};
use crate::{Federation, error::Result};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let filter = &signed.filter;
    let room_types = filter.room_types.iter();
    let request = DirectoryRequest {
        limit: limit(signed.limit),
        since: signed.since.clone(),
        search: filter.generic_search_term.clone(),
        room_types: room_types
            .map(|room_type| room_type.as_str().map(ToOwned::to_owned))
            .collect(),
    };
    let page = page(&federation, &signed.room_network, &request).await?;
    let mut response = Response::new();
    response.chunk = page.rooms.iter().map(describe).collect();
    response.total_room_count_estimate = Some(count(page.total));
    response.next_batch = page.next;
    response.prev_batch = page.previous;
    Ok(response)
}
