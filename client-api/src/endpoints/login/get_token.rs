//! `POST /_matrix/client/v1/login/get_token`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv1loginget_token>

use parley_engine::{interactive::Operation, limits::Action};
use ruma::api::{
    client::session::get_login_token::v1::{Request, Response},
    error::ErrorKind,
};

use crate::{ApiError, ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    let accounts = api.engine.accounts();
    if !accounts.may_make_login_tokens(session).await? {
        return Err(ApiError::with_status(
            http::StatusCode::BAD_REQUEST,
            ErrorKind::Forbidden,
            "you can't have tokens made that log in another device",
        ));
    }
    api.engine.limits().check(Action::Login, session.user_nid)?;
    let operation = Operation {
        name: "make a login token",
        session: Some(session),
        request_hash: incoming.hash_without_auth(),
    };
    api.engine
        .interactive()
        .authorise_by_password(&operation, incoming.auth.as_ref())
        .await?;
    let made = accounts.make_login_token(session).await?;
    Ok(Response::new(made.expires_in, made.token))
}
