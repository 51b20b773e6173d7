//! `GET /_matrix/client/v3/register/available`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3registeravailable>

use parley_engine::{limits::Action, settings::RegistrationMode};
use ruma::api::{
    client::account::get_username_availability::v3::{Request, Response},
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
    accounts.check_username(&incoming.username, None).await?;
    Ok(Response::new(true))
}
