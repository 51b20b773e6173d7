//! `DELETE /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`: <https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3pushrulesglobalkindruleid>

use parley_engine::limits::Action;
use ruma::api::client::push::delete_pushrule::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let Incoming {
        request, session, ..
    } = incoming;
    api.engine.limits().check(Action::Write, session.user_nid)?;
    let rules = api.engine.push();
    rules
        .remove(&session, request.kind, &request.rule_id)
        .await?;
    Ok(Response::new())
}
