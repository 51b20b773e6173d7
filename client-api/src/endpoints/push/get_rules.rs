//! `GET /_matrix/client/v3/pushrules/`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrules>

use ruma::api::client::push::get_pushrules_all::v3::Request;

use crate::{ClientApi, Incoming, RawJson, Result};

/// Not by ruma's type, which leaves out the kinds of which there is no rule.
pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let session = &incoming.session;
    let rules = api.engine.push();
    let content = rules.content(&session.user_id, session.user_nid).await?;
    Ok(RawJson(content.to_string().into()))
}
