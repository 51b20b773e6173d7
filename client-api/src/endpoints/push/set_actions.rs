//! `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`: <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3pushrulesglobalkindruleidactions>

use parley_engine::limits::Action;
use ruma::api::client::push::set_pushrule_actions::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let Incoming {
        request, session, ..
    } = incoming;
    api.engine.limits().check(Action::Write, session.user_nid)?;
    api.engine
        .push()
        .set_actions(&session, request.kind, &request.rule_id, request.actions)
        .await?;
    Ok(Response::new())
}
