//! `GET /_matrix/client/v3/publicRooms`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3publicrooms>

use parley_engine::{
    remote::{PublicRooms, PublicRoomsPage},
    rooms::directory::{DirectoryEntry, DirectoryPage, DirectoryRequest},
};
use ruma::{
    ServerName, UInt,
    api::client::directory::get_public_rooms::v3::Request,
    directory::{PublicRoomsChunk, PublicRoomsChunkInit},
};
use serde_json::{Value, json};

use crate::{ApiError, ClientApi, Incoming, RawJson, Result};

/// Rooms of a page whose client doesn't say how many it wants.
const PAGE: usize = 100;

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    if let Some(server) = elsewhere(&api, incoming.server.as_deref()) {
        let page = PublicRoomsPage {
            limit: incoming.limit.map(u64::from),
            since: incoming.since.clone(),
            ..PublicRoomsPage::default()
        };
        incoming.limit_asking(&api, server)?;
        return answer(&ask(&api, server, page, false).await?);
    }
    let request = DirectoryRequest {
        limit: limit(incoming.limit),
        since: incoming.since.clone(),
        ..DirectoryRequest::default()
    };
    let page = api.engine.rooms().directory(&request).await?;
    answer(&listed(&page))
}

/// A page of rooms. A join rule that is `public` may be left out, which ruma does; but there are clients that look for it.
pub(super) fn answer(rooms: &PublicRooms) -> Result<RawJson> {
    let chunk = rooms.chunk.iter().map(|room| {
        let mut room = serde_json::to_value(room)?;
        if let Value::Object(fields) = &mut room {
            let public = || Value::from("public");
            fields.entry("join_rule").or_insert_with(public);
        }
        Ok(room)
    });
    let chunk: Result<Vec<Value>, serde_json::Error> = chunk.collect();
    let chunk = chunk.map_err(|error| {
        tracing::error!(%error, "a response could not be serialised");
        ApiError::internal()
    })?;
    Ok(RawJson::without_nulls(json!({
        "chunk": chunk,
        "next_batch": rooms.next_batch,
        "prev_batch": rooms.prev_batch,
        "total_room_count_estimate": rooms.total,
    })))
}

/// A page of this server's rooms.
pub(super) fn listed(page: &DirectoryPage) -> PublicRooms {
    PublicRooms {
        chunk: page.rooms.iter().map(describe).collect(),
        next_batch: page.next.clone(),
        prev_batch: page.previous.clone(),
        total: Some(page.total as u64),
    }
}

/// The other server whose rooms are asked for, if it is another.
pub(super) fn elsewhere<'a>(
    api: &ClientApi,
    server: Option<&'a ServerName>,
) -> Option<&'a ServerName> {
    server.filter(|server| **server != api.engine.settings().server_name)
}

/// Asks another server for its rooms; with `insist`, although it failed lately.
pub(super) async fn ask(
    api: &ClientApi,
    server: &ServerName,
    page: PublicRoomsPage,
    insist: bool,
) -> Result<PublicRooms> {
    let rooms = api.engine.rooms();
    Ok(rooms.directory_of(server, page, insist).await?)
}

pub(super) fn limit(limit: Option<UInt>) -> usize {
    limit.map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(PAGE))
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
