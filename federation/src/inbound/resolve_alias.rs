//! `GET /_matrix/federation/v1/query/directory`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1querydirectory>

use ruma::api::{
    error::ErrorKind,
    federation::query::get_room_information::v1::{Request, Response},
};

use super::Signed;
use crate::{
    Federation,
    error::{FederationError, Result},
};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let rooms = federation.engine().rooms();
    if signed.room_alias.server_name() != federation.engine().settings().server_name {
        return Err(FederationError::new(
            ErrorKind::NotFound,
            "the alias is none of this server",
        ));
    }
    let (room_id, servers) = rooms.resolve_alias_here(&signed.room_alias).await?;
    Ok(Response::new(room_id, servers))
}
