//! `DELETE /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3useruseridroomsroomidtagstag>

use parley_engine::limits::Action;
use ruma::api::client::tag::delete_tag::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result, endpoints::check_own};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    check_own(session, &incoming.user_id)?;
    api.engine.limits().check(Action::Write, session.user_nid)?;
    api.engine
        .account_data()
        .remove_tag(session, &incoming.room_id, &incoming.tag)
        .await?;
    Ok(Response::new())
}
