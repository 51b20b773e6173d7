//! `GET /_matrix/federation/v1/hierarchy/{roomId}`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid>

use ruma::{
    api::federation::space::{
        SpaceHierarchyParentSummary,
        get_hierarchy::v1::{Request, Response},
    },
    serde::Raw,
};

use super::Signed;
use crate::{Federation, error::Result};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let rooms = federation.engine().rooms();
    let space = rooms
        .hierarchy_for_server(&signed.origin, &signed.room_id, signed.suggested_only)
        .await?;
    let children = space
        .room
        .children
        .into_iter()
        .map(Raw::from_json)
        .collect();
    let room = SpaceHierarchyParentSummary::new(space.room.summary, children);
    let mut response = Response::new(room);
    response.children = space.children;
    response.inaccessible_children = space.inaccessible;
    Ok(response)
}
