//! `GET /_matrix/client/v3/login`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3login>

use ruma::api::client::session::get_login_types::v3::Request;
use serde_json::json;

use crate::{ClientApi, Incoming, RawJson, Result};

/// Not by ruma's type, which has no place for a type of login that the specification doesn't know.
pub(super) async fn handle(api: ClientApi, _: Incoming<Request>) -> Result<RawJson> {
    let settings = api.engine.settings();
    let mut flows = vec![json!({ "type": "m.login.password" })];
    if settings.login.by_token {
        flows.push(json!({ "type": "m.login.token", "get_login_token": true }));
    }
    if !settings.appservices.is_empty() {
        flows.push(json!({ "type": "m.login.application_service" }));
    }
    if settings.login.jwt.is_some() {
        flows.push(json!({ "type": "org.matrix.login.jwt" }));
    }
    Ok(RawJson(json!({ "flows": flows }).to_string().into()))
}
