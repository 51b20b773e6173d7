//! `GET /_matrix/client/v3/publicRooms`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3publicrooms>

use parley_engine::rooms::directory::{DirectoryEntry, DirectoryPage, DirectoryRequest};
use ruma::{
    ServerName, UInt,
    api::{
        client::directory::get_public_rooms::v3::{Request, Response},
        error::ErrorKind,
    },
    directory::{PublicRoomsChunk, PublicRoomsChunkInit},
};

use crate::{ApiError, ClientApi, Incoming, Result};

/// Rooms of a page whose client doesn't say how many it wants.
const PAGE: usize = 100;

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    only_here(&api, incoming.server.as_deref())?;
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

/// Refuses to ask other servers.
pub(super) fn only_here(api: &ClientApi, server: Option<&ServerName>) -> Result<()> {
    if server.is_none_or(|server| *server == api.engine.settings().server_name) {
        return Ok(());
    }
    // TODO: the directories of other servers come with federation.
    Err(ApiError::new(
        ErrorKind::Unrecognized,
        "this server doesn't ask others for their rooms yet",
    ))
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
