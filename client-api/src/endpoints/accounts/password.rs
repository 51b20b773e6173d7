//! `POST /_matrix/client/v3/account/password`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountpassword>

use parley_engine::{interactive::Operation, limits::Action};
use ruma::api::{
    client::account::change_password::v3::{Request, Response},
    error::ErrorKind,
};

use crate::{ApiError, ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    // Without a token, the password could only be reset by a mail, which this server doesn't send.
    let Some(session) = &incoming.session else {
        return Err(ApiError::new(
            ErrorKind::MissingToken,
            "an access token is required",
        ));
    };
    api.engine.limits().check(Action::Write, session.user_nid)?;
    let accounts = api.engine.accounts();
    accounts.check_new_password(&incoming.new_password)?;
    let operation = Operation {
        name: "change password",
        session: Some(session),
        request_hash: incoming.hash_without_auth(),
    };
    api.engine
        .interactive()
        .authorise_by_password(&operation, incoming.auth.as_ref())
        .await?;
    accounts
        .change_password(session, &incoming.new_password, incoming.logout_devices)
        .await?;
    Ok(Response::new())
}
