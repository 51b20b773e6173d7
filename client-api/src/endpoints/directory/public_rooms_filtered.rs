//! `POST /_matrix/client/v3/publicRooms`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3publicrooms>

use parley_engine::{limits::Action, remote::PublicRoomsPage, rooms::directory::DirectoryRequest};
use ruma::{
    api::client::directory::get_public_rooms_filtered::v3::{Request, Response},
    directory::RoomNetwork,
};

use super::public_rooms::{ask, chunk, count, elsewhere, estimate, limit};
use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    api.engine
        .limits()
        .check(Action::Search, session.user_nid)?;
    let mut response = Response::new();
    if let Some(server) = elsewhere(&api, incoming.server.as_deref()) {
        let page = PublicRoomsPage {
            limit: incoming.limit.map(u64::from),
            since: incoming.since.clone(),
            search: incoming.filter.generic_search_term.clone(),
            room_types: room_types(&incoming),
            network: incoming.room_network.clone(),
        };
        let rooms = ask(&api, server, page).await?;
        response.chunk = rooms.chunk;
        response.next_batch = rooms.next_batch;
        response.prev_batch = rooms.prev_batch;
        response.total_room_count_estimate = rooms.total.map(estimate);
        return Ok(response);
    }
    response.total_room_count_estimate = Some(count(0));
    if let RoomNetwork::ThirdParty(_) = incoming.room_network {
        // There are no bridged networks here.
        return Ok(response);
    }
    let request = DirectoryRequest {
        limit: limit(incoming.limit),
        since: incoming.since.clone(),
        search: incoming.filter.generic_search_term.clone(),
        room_types: room_types(&incoming),
    };
    let page = api.engine.rooms().directory(&request).await?;
    response.chunk = chunk(&page);
    response.total_room_count_estimate = Some(count(page.total));
    response.next_batch = page.next;
    response.prev_batch = page.previous;
    Ok(response)
}

/// The types of rooms that are wanted.
fn room_types(request: &Request) -> Vec<Option<String>> {
    let room_types = request.filter.room_types.iter();
    room_types
        .map(|room_type| room_type.as_str().map(ToOwned::to_owned))
        .collect()
}
