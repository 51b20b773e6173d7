//! `GET /_matrix/client/v3/presence/{userId}/status`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3presenceuseridstatus>

use ruma::api::client::presence::get_presence::v3::Request;

use crate::{ClientApi, Incoming, RawJson, Result};

/// The answer is what stands in an `m.presence` event.
pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let presence = api.engine.presence();
    let state = presence.see(&incoming.session, &incoming.user_id).await?;
    let content = state.content(api.engine.clock().now_ms());
    Ok(RawJson(content.to_string().into()))
}
