//! `GET /_matrix/client/v3/capabilities`: <https://spec.matrix.org/v1.19/client-server-api/#capabilities-negotiation>

use parley_protocol::versions::offered;
use ruma::api::client::discovery::get_capabilities::v3::Request;
use serde_json::{Map, Value, json};

use crate::{ClientApi, Incoming, RawJson, Result};

/// Not by ruma's type, which leaves out what is the default: clients do look for `m.change_password`.
pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let available: Map<String, Value> = offered()
        .iter()
        .map(|version| {
            let stability = match version.is_stable() {
                true => "stable",
                false => "unstable",
            };
            (version.id().to_string(), json!(stability))
        })
        .collect();
    let settings = api.engine.settings();
    let login_tokens = api
        .engine
        .accounts()
        .may_make_login_tokens(&incoming.session)
        .await?;
    let mut capabilities = json!({
        "m.change_password": { "enabled": true },
        "m.room_versions": { "default": settings.rooms.default_version, "available": available },
        "m.set_displayname": { "enabled": true },
        "m.set_avatar_url": { "enabled": true },
        "m.profile_fields": { "enabled": true },
        "m.forget_forced_upon_leave": { "enabled": settings.rooms.forget_on_leave },
        "m.3pid_changes": { "enabled": false },
        "m.get_login_token": { "enabled": login_tokens },
    });
    let delayed = &settings.delayed_events;
    capabilities["org.matrix.msc4140.delayed_events"] = json!({
        "max_delay_ms": u64::try_from(delayed.max_delay.as_millis()).unwrap_or(u64::MAX),
        "max_scheduled": delayed.max_scheduled,
    });
    if incoming.session.admin {
        capabilities["m.account_moderation"] = json!({ "suspend": true, "lock": true });
    }
    let answer = json!({ "capabilities": capabilities });
    Ok(RawJson(answer.to_string().into()))
}
