//! `POST /_matrix/client/v3/publicRooms`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3publicrooms>

use parley_engine::{limits::Action, rooms::directory::DirectoryRequest};
use ruma::{
    api::client::directory::get_public_rooms_filtered::v3::{Request, Response},
    directory::RoomNetwork,
};

use super::public_rooms::{chunk, count, limit, only_here};
use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    api.engine
        .limits()
        .check(Action::Search, session.user_nid)?;
    only_here(&api, incoming.server.as_deref())?;
    let mut response = Response::new();
    response.total_room_count_estimate = Some(count(0));
    if let RoomNetwork::ThirdParty(_) = incoming.room_network {
        // There are no bridged networks here.
        return Ok(response);
    }
    let request = DirectoryRequest {
        limit: limit(incoming.limit),
        since: incoming.since.clone(),
        search: incoming.filter.generic_search_term.clone(),
        room_types: incoming
            .filter
            .room_types
            .iter()
            .map(|room_type| room_type.as_str().map(ToOwned::to_owned))
            .collect(),
    };
    let page = api.engine.rooms().directory(&request).await?;
    response.chunk = chunk(&page);
    response.total_room_count_estimate = Some(count(page.total));
    response.next_batch = page.next;
    response.prev_batch = page.previous;
    Ok(response)
}
