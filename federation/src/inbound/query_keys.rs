//! `GET /_matrix/key/v2/query/{serverName}`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2queryservername>

use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, ServerName,
    api::federation::discovery::{
        ServerSigningKeys,
        get_remote_server_keys::v2::{Request, Response},
    },
    serde::Raw,
};

use super::get_keys::raw;
use crate::{Federation, error::Result};

pub(super) async fn handle(federation: Federation, request: Request) -> Result<Response> {
    let keys = keys_of(
        &federation,
        &request.server_name,
        request.minimum_valid_until_ts,
    );
    Ok(Response::new(keys.await?.into_iter().collect()))
}

/// What is known of a server's keys, with this server's signature. `None` if there is nothing.
pub(super) async fn keys_of(
    federation: &Federation,
    server: &ServerName,
    valid_at: MilliSecondsSinceUnixEpoch,
) -> Result<Option<Raw<ServerSigningKeys>>> {
    let own = federation.keys().own();
    if *server == federation.engine().settings().server_name {
        return raw(own.publish()).map(Some);
    }
    let Some(published) = federation.keys().published(server, valid_at).await else {
        return Ok(None);
    };
    let Ok(mut object) = serde_json::from_str::<CanonicalJsonObject>(&published.json) else {
        return Ok(None);
    };
    own.sign(&mut object);
    raw(object).map(Some)
}
