//! `GET /.well-known/matrix/server`: <https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver>

use ruma::api::{
    error::ErrorKind,
    federation::discovery::discover_homeserver::{Request, Response},
};

use crate::{ApiError, ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, _: Incoming<Request>) -> Result<Response> {
    match &api.settings.well_known.server {
        Some(server) => Ok(Response::new(server.clone())),
        None => Err(ApiError::new(
            ErrorKind::NotFound,
            "this server is at its name: `well_known.server` isn't set",
        )),
    }
}
