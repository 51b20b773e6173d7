//! `GET /_matrix/client/v1/register/m.login.registration_token/validity`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1registermloginregistration_tokenvalidity>

use parley_engine::{limits::Action, settings::RegistrationMode};
use ruma::api::{
    client::account::check_registration_token_validity::v1::{Request, Response},
    error::ErrorKind,
};

use crate::{ApiError, ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    incoming.limit_by_address(&api, Action::Registration)?;
    let accounts = api.engine.accounts();
    if accounts.registration_mode() == RegistrationMode::Closed {
        return Err(ApiError::new(
            ErrorKind::Forbidden,
            "registration is closed on this server",
        ));
    }
    let token = &incoming.token;
    Ok(Response::new(
        accounts.is_registration_token_valid(token).await?,
    ))
}
