//! `DELETE /_matrix/client/v3/profile/{userId}/{keyName}`: <https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3profileuseridkeyname>

use ruma::api::client::profile::delete_profile_field::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let profiles = api.engine.profiles();
    let field = incoming.field.as_str();
    profiles
        .delete_field(&incoming.session, &incoming.user_id, field)
        .await?;
    Ok(Response::new())
}
