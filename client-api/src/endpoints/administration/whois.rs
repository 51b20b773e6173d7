//! `GET /_matrix/client/v3/admin/whois/{userId}`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3adminwhoisuserid>

use ruma::api::client::admin::get_user_info::v3::Request;
use serde_json::{Map, Value, json};

use crate::{ClientApi, Incoming, RawJson, Result};

/// Not by ruma's type, which says `null` where nothing is known.
pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let (session, user_id) = (&incoming.session, &incoming.user_id);
    let account = api.engine.accounts().whois(session, user_id).await?;
    let devices = api.engine.devices().list(account.user_nid).await?;
    let devices: Map<String, Value> = devices
        .into_iter()
        .map(|device| {
            let connections = match (&device.last_seen_ip, device.last_seen_ts) {
                (None, None) => json!([]),
                (ip, last_seen) => json!([{ "ip": ip, "last_seen": last_seen }]),
            };
            let sessions = json!({ "sessions": [{ "connections": connections }] });
            (device.device_id.to_string(), sessions)
        })
        .collect();
    let answer = json!({ "user_id": account.user_id, "devices": devices });
    Ok(RawJson::without_nulls(answer))
}
