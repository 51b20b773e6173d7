//! `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridroomsroomidtags>

use ruma::api::client::tag::get_tags::v3::Request;
use serde_json::json;

use crate::{ClientApi, Incoming, RawJson, Result, endpoints::check_own};

/// Not by ruma's type, which leaves out what it doesn't know of a tag.
pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let session = &incoming.session;
    check_own(session, &incoming.user_id)?;
    let data = api.engine.account_data();
    let tags = data.tags(session, &incoming.room_id).await?;
    Ok(RawJson(json!({ "tags": tags }).to_string().into()))
}
