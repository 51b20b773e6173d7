//! `PUT /_matrix/client/v3/presence/{userId}/status`: <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3presenceuseridstatus>

use parley_engine::limits::Action;
use ruma::api::client::presence::set_presence::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result, endpoints::check_own};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let Incoming {
        request, session, ..
    } = incoming;
    check_own(&session, &request.user_id)?;
    session.may_write()?;
    api.engine
        .limits()
        .check(Action::Ephemeral, session.user_nid)?;
    api.engine
        .presence()
        .set(&session, &request.presence, request.status_msg)
        .await?;
    Ok(Response::new())
}
