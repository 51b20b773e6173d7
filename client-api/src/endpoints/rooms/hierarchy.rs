//! `GET /_matrix/client/v1/rooms/{roomId}/hierarchy`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy>

use parley_engine::{limits::Action, rooms::hierarchy::HierarchyRequest};
use ruma::{
    UInt,
    api::{
        client::space::{
            SpaceHierarchyRoomsChunk,
            get_hierarchy::v1::{Request, Response},
        },
        error::ErrorKind,
    },
    serde::Raw,
};

use crate::{ApiError, ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    api.engine
        .limits()
        .check(Action::Search, session.user_nid)?;
    if incoming.limit == Some(UInt::MIN) {
        return Err(ApiError::new(
            ErrorKind::InvalidParam,
            "`limit` is greater than zero",
        ));
    }
    let number = |number: UInt| usize::try_from(number).unwrap_or(usize::MAX);
    let request = HierarchyRequest {
        suggested_only: incoming.suggested_only,
        max_depth: incoming.max_depth.map(number),
        limit: incoming.limit.map(number),
        from: incoming.from.clone(),
    };
    let rooms = api.engine.rooms();
    let page = rooms
        .hierarchy(session, &incoming.room_id, &request)
        .await?;
    let mut response = Response::new();
    response.next_batch = page.next;
    response.rooms = page
        .rooms
        .into_iter()
        .map(|room| {
            let children = room.children.into_iter().map(Raw::from_json).collect();
            SpaceHierarchyRoomsChunk::new(room.summary, children)
        })
        .collect();
    Ok(response)
}
