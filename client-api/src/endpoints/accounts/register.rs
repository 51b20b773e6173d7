//! `POST /_matrix/client/v3/register`: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3register>

use std::sync::Arc;

use parley_engine::{
    accounts::{Account, NewUser},
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
    if incoming.login_type == Some(LoginType::ApplicationService) {
        return by_appservice(&api, incoming).await;
    }
    incoming.limit_by_address(&api, Action::Registration)?;
    match incoming.kind {
        RegistrationKind::Guest => guest(&api, incoming).await,
        RegistrationKind::User => person(&api, incoming).await,
        _ => Err(ApiError::new(
            ErrorKind::InvalidParam,
            "`kind` is guest or user",
        )),
    }
}

/// Of what a guest asks for, only the name of the device is heeded, as the specification wants it.
async fn guest(api: &ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let account = api.engine.accounts().create_guest().await?;
    let options = LoginOptions {
        display_name: incoming.request.initial_device_display_name,
        ..LoginOptions::default()
    };
    logged_in(api, &account, options).await
}

/// An account without a password, in the namespace of an application service.
async fn by_appservice(api: &ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let appservice = login::appservice(api, incoming.session.as_deref())?;
    let user = NewUser {
        username: Some(
            incoming
                .username
                .clone()
                .ok_or_else(|| ApiError::new(ErrorKind::MissingParam, "`username` is missing"))?,
        ),
        appservice: Some(Arc::clone(appservice)),
        ..NewUser::default()
    };
    let account = api.engine.accounts().create(user).await?;
    registered(api, &account, incoming.request).await
}

async fn person(api: &ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let accounts = api.engine.accounts();
    let guest = match &incoming.guest_access_token {
        Some(token) => {
            let username = incoming.username.as_deref();
            Some(accounts.guest_of_token(token, username).await?)
        }
        None => None,
    };
    // The checks that the specification wants before authentication, unless nobody can register anyway.
    if accounts.registration_mode() != RegistrationMode::Closed {
        if let (Some(username), None) = (&incoming.username, &guest) {
            accounts.check_username(username, None).await?;
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
    let mut request = incoming.request;
    let password = request
        .password
        .take()
        .ok_or_else(|| ApiError::new(ErrorKind::MissingParam, "an account needs a password"))?;
    let user = NewUser {
        username: request.username.take(),
        password: Some(Secret::new(password)),
        registration_token: proof.registration_token().map(ToOwned::to_owned),
        accepted_terms: proof.accepted_terms(),
        ..NewUser::default()
    };
    let account = match &guest {
        Some(guest) => accounts.upgrade_guest(guest, &user).await?,
        None => accounts.create(user).await?,
    };
    registered(api, &account, request).await
}

/// Logs a new account in, unless the client doesn't want that.
async fn registered(api: &ClientApi, account: &Account, request: Request) -> Result<RawJson> {
    if request.inhibit_login {
        let answer = json!({ "user_id": account.user_id });
        return Ok(RawJson(answer.to_string().into()));
    }
    let options = LoginOptions {
        device_id: request.device_id,
        display_name: request.initial_device_display_name,
        refresh_token: request.refresh_token,
    };
    logged_in(api, account, options).await
}

async fn logged_in(api: &ClientApi, account: &Account, options: LoginOptions) -> Result<RawJson> {
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
