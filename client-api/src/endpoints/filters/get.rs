//! `GET /_matrix/client/v3/user/{userId}/filter/{filterId}`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridfilterfilterid>

use ruma::api::client::filter::get_filter::v3::Request;

use crate::{ClientApi, Incoming, RawJson, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let session = &incoming.session;
    super::check_own(session, &incoming.user_id)?;
    let filters = api.engine.filters();
    let stored = filters
        .stored(session.user_nid, &incoming.filter_id)
        .await?;
    Ok(RawJson(stored.into()))
}
