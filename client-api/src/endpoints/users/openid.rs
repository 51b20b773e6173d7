//! `POST /_matrix/client/v3/user/{userId}/openid/request_token`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3useruseridopenidrequest_token>

use parley_engine::limits::Action;
use ruma::{
    api::client::account::request_openid_token::v3::{Request, Response},
    authentication::TokenType,
};

use crate::{ClientApi, Incoming, Result, endpoints::check_own};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    check_own(session, &incoming.user_id)?;
    api.engine.limits().check(Action::Write, session.user_nid)?;
    let made = api.engine.accounts().make_openid_token(session).await?;
    Ok(Response::new(
        made.token,
        TokenType::Bearer,
        api.engine.settings().server_name.clone(),
        made.expires_in,
    ))
}
