//! `POST /_matrix/client/v3/publicRooms`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3publicrooms>

use parley_engine::{
    limits::Action,
    remote::{PublicRooms, PublicRoomsPage},
    rooms::directory::DirectoryRequest,
};
use ruma::{
    api::client::directory::get_public_rooms_filtered::v3::Request, directory::RoomNetwork,
};

use super::public_rooms::{answer, ask, elsewhere, limit, listed};
use crate::{ClientApi, Incoming, RawJson, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let session = &incoming.session;
    api.engine
        .limits()
        .check(Action::Search, session.user_nid)?;
    if let Some(server) = elsewhere(&api, incoming.server.as_deref()) {
        let page = PublicRoomsPage {
            limit: incoming.limit.map(u64::from),
            since: incoming.since.clone(),
            search: incoming.filter.generic_search_term.clone(),
            room_types: room_types(&incoming),
            network: incoming.room_network.clone(),
        };
        return answer(&ask(&api, server, page, true).await?);
    }
    if let RoomNetwork::ThirdParty(_) = incoming.room_network {
        // There are no bridged networks here.
        return answer(&PublicRooms {
            total: Some(0),
            ..PublicRooms::default()
        });
    }
    let request = DirectoryRequest {
        limit: limit(incoming.limit),
        since: incoming.since.clone(),
        search: incoming.filter.generic_search_term.clone(),
        room_types: room_types(&incoming),
    };
    let page = api.engine.rooms().directory(&request).await?;
    answer(&listed(&page))
}

/// The types of rooms that are wanted.
fn room_types(request: &Request) -> Vec<Option<String>> {
    let room_types = request.filter.room_types.iter();
    room_types
        .map(|room_type| room_type.as_str().map(ToOwned::to_owned))
        .collect()
}
