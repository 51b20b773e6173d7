//! `GET /_matrix/client/v3/pushers`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushers>

use ruma::api::client::push::get_pushers::v3::Request;
use serde_json::json;

use crate::{ClientApi, Incoming, RawJson, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let pushers = api.engine.pushers().list(&incoming.session).await?;
    Ok(RawJson(json!({ "pushers": pushers }).to_string().into()))
}
