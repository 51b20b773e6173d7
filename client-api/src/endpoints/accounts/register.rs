//! `POST /_matrix/client/v3/register`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3register>

use parley_engine::{
    accounts::NewUser,
    devices::LoginOptions,
    limits::Action,
    settings::{RegistrationMode, Secret},
};
use ruma::api::{
    client::account::register::{LoginType, RegistrationKind, v3::Request},
    error::ErrorKind,
};
use serde_json::json;

use crate::{ApiError, ClientApi, Incoming, RawJson, Result, endpoints::login};

/// Not by ruma's type, which answers `device_id: null` to who doesn't want to be logged in.
pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    incoming.limit_by_address(&api, Action::Registration)?;
    if incoming.kind == RegistrationKind::Guest {
        return Err(ApiError::new(
            ErrorKind::GuestAccessForbidden,
            "this server has no guests",
        ));
    }
    if incoming.login_type == Some(LoginType::ApplicationService) {
        return Err(login::unknown_appservice(incoming.session.as_deref()));
    }
    let accounts = api.engine.accounts();
    // The checks that the specification wants before authentication, unless nobody can register anyway.
    if accounts.registration_mode() != RegistrationMode::Closed {
        if let Some(username) = &incoming.username {
            accounts.check_username(username).await?;
        }
        if let Some(password) = &incoming.password {
            accounts.check_new_password(password)?;
        }
    }
    let hash = incoming.hash_without_auth();
    let proof = api
        .engine
        .interactive()
        .authorise_registration(hash, incoming.auth.as_ref())
        .await?;
    let request = incoming.request;
    let password = request
        .password
        .ok_or_else(|| ApiError::new(ErrorKind::MissingParam, "an account needs a password"))?;
    let account = accounts
        .create(NewUser {
            username: request.username,
            password: Some(Secret::new(password)),
            admin: false,
            registration_token: proof.registration_token().map(ToOwned::to_owned),
        })
        .await?;
    if request.inhibit_login {
        let answer = json!({ "user_id": account.user_id });
        return Ok(RawJson(answer.to_string().into()));
    }
    let options = LoginOptions {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        refresh_token: request.refresh_token,
    };
    let login = api
        .engine
        .devices()
        .log_in(account.user_nid, &account.user_id, options)
        .await?;
    Ok(RawJson::without_nulls(json!({
        "user_id": login.user_id,
        "device_id": login.device_id,
        "access_token": login.access_token,
        "refresh_token": login.refresh_token,
        "expires_in_ms": login.expires_in.map(|left| left.as_millis()),
    })))
}
