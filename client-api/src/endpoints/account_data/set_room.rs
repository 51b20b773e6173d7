//! `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3useruseridroomsroomidaccount_datatype>

use parley_engine::limits::Action;
use ruma::api::client::config::set_room_account_data::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result, endpoints::check_own};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    check_own(session, &incoming.user_id)?;
    api.engine.limits().check(Action::Write, session.user_nid)?;
    super::check_body(&incoming.body)?;
    let event_type = incoming.event_type.to_string();
    api.engine
        .account_data()
        .set(
            session,
            Some(&incoming.room_id),
            &event_type,
            incoming.data.json(),
        )
        .await?;
    Ok(Response::new())
}
