//! `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`: <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3pushrulesglobalkindruleid>

use parley_engine::limits::Action;
use ruma::api::client::push::set_pushrule::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let Incoming {
        request, session, ..
    } = incoming;
    api.engine.limits().check(Action::Write, session.user_nid)?;
    api.engine
        .push()
        .insert(
            &session,
            request.rule,
            request.before.as_deref(),
            request.after.as_deref(),
        )
        .await?;
    Ok(Response::new())
}
