//! `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`: <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3pushrulesglobalkindruleid>

use parley_engine::limits::Action;
use ruma::api::client::push::set_pushrule::v3::{self, Response};
use serde_json::{Map, Value};

use crate::{
    ClientApi, Incoming, Result,
    completed::{Completed, Completion},
};

/// A rule without conditions matches always, and may say so by leaving them out.
pub(super) struct WithConditions;

impl Completion for WithConditions {
    type Request = v3::Request;

    fn complete(body: &mut Map<String, Value>, path: &[&str]) {
        if matches!(path.first(), Some(&("override" | "underride"))) {
            body.entry("conditions")
                .or_insert_with(|| Value::Array(Vec::new()));
        }
    }
}

type Request = Completed<WithConditions>;

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let Incoming {
        request: Completed(request, _),
        session,
        ..
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
