//! `GET /_matrix/client/v3/profile/{userId}`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3profileuserid>

use ruma::api::client::profile::get_profile::v3::Request;

use crate::{ClientApi, Incoming, RawJson, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    incoming.limit_asking(&api, incoming.user_id.server_name())?;
    let fields = api.engine.profiles().get(&incoming.user_id).await?;
    let fields = fields.iter().map(|(field, value)| (&**field, &**value));
    Ok(super::object(fields))
}
