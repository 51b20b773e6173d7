//! `GET /.well-known/matrix/client`: <https://spec.matrix.org/v1.19/client-server-api/#getwell-knownmatrixclient>

use ruma::api::{client::discovery::discover_homeserver::Request, error::ErrorKind};
use serde_json::json;

use super::rtc_transports::transports;
use crate::{ApiError, ClientApi, Incoming, RawJson, Result};

/// Not by ruma's type, which knows the services of calls only where they are switched on for all of ruma.
pub(super) async fn handle(api: ClientApi, _: Incoming<Request>) -> Result<RawJson> {
    let Some(url) = &api.settings.well_known.homeserver_url else {
        return Err(ApiError::new(
            ErrorKind::NotFound,
            "this server doesn't tell its address: `server.public_url` isn't set",
        ));
    };
    let mut file = json!({ "m.homeserver": { "base_url": url } });
    let transports = transports(&api);
    if !transports.is_empty() {
        file["org.matrix.msc4143.rtc_foci"] = transports.into();
    }
    Ok(RawJson(file.to_string().into()))
}
