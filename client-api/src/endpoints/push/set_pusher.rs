//! `POST /_matrix/client/v3/pushers/set`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3pushersset>

use parley_engine::limits::Action;
use ruma::api::client::push::set_pusher::v3::{PusherAction, Request, Response};

use crate::{ApiError, ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let Incoming {
        request, session, ..
    } = incoming;
    api.engine.limits().check(Action::Write, session.user_nid)?;
    let pushers = api.engine.pushers();
    match request.action {
        PusherAction::Post(data) => pushers.set(&session, &data.pusher, data.append).await?,
        PusherAction::Delete(ids) => pushers.remove(&session, &ids).await?,
        _ => return Err(ApiError::internal()),
    }
    Ok(Response::new())
}
