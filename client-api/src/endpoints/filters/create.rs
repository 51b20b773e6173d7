//! `POST /_matrix/client/v3/user/{userId}/filter`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3useruseridfilter>

use parley_engine::limits::Action;
use ruma::api::client::filter::create_filter::v3::{Request, Response};
use serde_json::Value;

use crate::{ApiError, ClientApi, Incoming, Result};

/// Ruma's type has checked the filter; what is stored is what was sent, with what ruma doesn't know.
pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    super::check_own(session, &incoming.user_id)?;
    api.engine.limits().check(Action::Write, session.user_nid)?;
    let sent: Value = match incoming.body.is_empty() {
        true => Value::Object(serde_json::Map::new()),
        false => serde_json::from_slice(&incoming.body).map_err(|_| ApiError::internal())?,
    };
    let filters = api.engine.filters();
    let filter_id = filters.create(session.user_nid, &sent).await?;
    Ok(Response::new(filter_id))
}
