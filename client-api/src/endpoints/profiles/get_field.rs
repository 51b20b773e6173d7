//! `GET /_matrix/client/v3/profile/{userId}/{keyName}`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3profileuseridkeyname>

use ruma::api::client::profile::get_profile_field::v3::Request;

use crate::{ClientApi, Incoming, RawJson, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    incoming.limit_asking(&api, incoming.user_id.server_name())?;
    let field = incoming.field.as_str();
    let profiles = api.engine.profiles();
    let value = profiles.get_field(&incoming.user_id, field).await?;
    Ok(super::object([(field, &*value)]))
}
