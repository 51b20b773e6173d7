//! `GET /_matrix/federation/v1/query/directory`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1querydirectory>

use ruma::api::federation::query::get_room_information::v1::{Request, Response};

use super::Signed;
use crate::{Federation, error::Result};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let rooms = federation.engine().rooms();
    let room_id = rooms.resolve_alias(&signed.room_alias).await?;
    let servers = rooms.servers_to_join_by(&room_id).await?;
    Ok(Response::new(room_id, servers))
}
