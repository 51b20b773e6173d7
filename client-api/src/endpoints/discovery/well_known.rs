//! `GET /.well-known/matrix/client`: <https://spec.matrix.org/v1.19/client-server-api/#getwell-knownmatrixclient>

use ruma::api::{
    client::discovery::discover_homeserver::{HomeserverInfo, Request, Response},
    error::ErrorKind,
};

use crate::{ApiError, ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, _: Incoming<Request>) -> Result<Response> {
    match &api.settings.homeserver_url {
        Some(url) => Ok(Response::new(HomeserverInfo::new(url.clone()))),
        None => Err(ApiError::new(
            ErrorKind::NotFound,
            "this server doesn't tell its address: `server.public_url` isn't set",
        )),
    }
}
