//! `GET /_matrix/client/v3/publicRooms`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3publicrooms>

use parley_engine::{
    remote::{PublicRooms, PublicRoomsPage},
    rooms::directory::{DirectoryEntry, DirectoryPage, DirectoryRequest},
};
use ruma::{
    ServerName, UInt,
    api::client::directory::get_public_rooms::v3::{Request, Response},
    directory::{PublicRoomsChunk, PublicRoomsChunkInit},
};

use crate::{ClientApi, Incoming, Result};

/// Rooms of a page whose client doesn't say how many it wants.
const PAGE: usize = 100;

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    if let Some(server) = elsewhere(&api, incoming.server.as_deref()) {
        let page = PublicRoomsPage {
            limit: incoming.limit.map(u64::from),
            since: incoming.since.clone(),
            ..PublicRoomsPage::default()
        };
        let rooms = ask(&api, server, page).await?;
        let mut response = Response::new(rooms.chunk);
        response.next_batch = rooms.next_batch;
        response.prev_batch = rooms.prev_batch;
        response.total_room_count_estimate = rooms.total.map(estimate);
        return Ok(response);
    }
    let request = DirectoryRequest {
        limit: limit(incoming.limit),
        since: incoming.since.clone(),
        ..DirectoryRequest::default()
    };
    let page = api.engine.rooms().directory(&request).await?;
    let mut response = Response::new(chunk(&page));
    response.total_room_count_estimate = Some(count(page.total));
    response.next_batch = page.next;
    response.prev_batch = page.previous;
    Ok(response)
}

/// The other server whose rooms are asked for, if it is another.
pub(super) fn elsewhere<'a>(
    api: &ClientApi,
    server: Option<&'a ServerName>,
) -> Option<&'a ServerName> {
    server.filter(|server| **server != api.engine.settings().server_name)
}

/// Asks another server for its rooms.
pub(super) async fn ask(
    api: &ClientApi,
    server: &ServerName,
    page: PublicRoomsPage,
) -> Result<PublicRooms> {
    Ok(api.engine.rooms().directory_of(server, page).await?)
}

pub(super) fn estimate(total: u64) -> UInt {
    UInt::try_from(total).unwrap_or(UInt::MAX)
}

pub(super) fn limit(limit: Option<UInt>) -> usize {
    limit.map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(PAGE))
}

pub(super) fn count(count: usize) -> UInt {
    UInt::try_from(count).unwrap_or(UInt::MAX)
}

pub(super) fn chunk(page: &DirectoryPage) -> Vec<PublicRoomsChunk> {
    page.rooms.iter().map(describe).collect()
}

fn describe(entry: &DirectoryEntry) -> PublicRoomsChunk {
    let summary = &entry.summary;
    let mut chunk = PublicRoomsChunk::from(PublicRoomsChunkInit {
        num_joined_members: summary.num_joined_members,
        room_id: summary.room_id.clone(),
        world_readable: summary.world_readable,
        guest_can_join: summary.guest_can_join,
    });
    chunk.name.clone_from(&summary.name);
    chunk.topic.clone_from(&summary.topic);
    chunk.avatar_url.clone_from(&summary.avatar_url);
    chunk.canonical_alias.clone_from(&summary.canonical_alias);
    chunk.join_rule = entry.join_rule.clone();
    chunk.room_type.clone_from(&summary.room_type);
    chunk
}
