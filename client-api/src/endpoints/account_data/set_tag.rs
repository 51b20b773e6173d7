//! `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3useruseridroomsroomidtagstag>

use parley_engine::limits::Action;
use ruma::api::client::tag::create_tag::v3::{Request, Response};
use serde_json::{Map, Value};

use crate::{ApiError, ClientApi, Incoming, Result, endpoints::check_own};

/// Ruma's type has checked it; what is stored is what was sent, with what ruma doesn't know.
pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    check_own(session, &incoming.user_id)?;
    api.engine.limits().check(Action::Write, session.user_nid)?;
    let info: Map<String, Value> = match incoming.body.is_empty() {
        true => Map::new(),
        false => serde_json::from_slice(&incoming.body).map_err(|_| ApiError::internal())?,
    };
    api.engine
        .account_data()
        .set_tag(session, &incoming.room_id, &incoming.tag, info)
        .await?;
    Ok(Response::new())
}
