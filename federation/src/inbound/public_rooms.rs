//! `GET /_matrix/federation/v1/publicRooms`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1publicrooms>

use parley_engine::rooms::directory::{DirectoryEntry, DirectoryPage, DirectoryRequest};
use ruma::{
    UInt,
    api::federation::directory::get_public_rooms::v1::{Request, Response},
    directory::{PublicRoomsChunk, PublicRoomsChunkInit, RoomNetwork},
};

use super::Signed;
use crate::{Federation, error::Result};

/// Rooms of a page where the other doesn't say how many it wants.
const PAGE: usize = 100;

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let request = DirectoryRequest {
        limit: limit(signed.limit),
        since: signed.since.clone(),
        ..DirectoryRequest::default()
    };
    let page = page(&federation, &signed.room_network, &request).await?;
    let mut response = Response::new();
    response.chunk = page.rooms.iter().map(describe).collect();
    response.total_room_count_estimate = Some(count(page.total));
    response.next_batch = page.next;
    response.prev_batch = page.previous;
    Ok(response)
}

/// A page of the directory. There are no bridged networks here.
pub(super) async fn page(
    federation: &Federation,
    network: &RoomNetwork,
    request: &DirectoryRequest,
) -> Result<DirectoryPage> {
    if let RoomNetwork::ThirdParty(_) = network {
        return Ok(DirectoryPage {
            rooms: Vec::new(),
            next: None,
            previous: None,
            total: 0,
        });
    }
    Ok(federation.engine().rooms().directory(request).await?)
}

pub(super) fn limit(limit: Option<UInt>) -> usize {
    limit.map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(PAGE))
}

pub(super) fn count(count: usize) -> UInt {
    UInt::try_from(count).unwrap_or(UInt::MAX)
}

pub(super) fn describe(entry: &DirectoryEntry) -> PublicRoomsChunk {
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
