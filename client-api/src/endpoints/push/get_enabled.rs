//! `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobalkindruleidenabled>

use ruma::api::client::push::get_pushrule_enabled::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let Incoming {
        request, session, ..
    } = incoming;
    let rules = api.engine.push();
    let rule = rules.rule(&session, request.kind, &request.rule_id).await?;
    Ok(Response::new(rule.enabled()))
}
