//! `GET /_matrix/client/v3/user/{userId}/account_data/{type}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridaccount_datatype>

use ruma::api::client::config::get_global_account_data::v3::Request;

use crate::{ClientApi, Incoming, RawJson, Result, endpoints::check_own};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let session = &incoming.session;
    check_own(session, &incoming.user_id)?;
    let event_type = incoming.event_type.to_string();
    let data = api.engine.account_data();
    let content = data.get(session, None, &event_type).await?;
    Ok(RawJson(String::from(Box::<str>::from(content)).into()))
}
