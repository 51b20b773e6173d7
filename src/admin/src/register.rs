//! `GET` and `POST /_synapse/admin/v1/register`: accounts made by scripts that know the shared secret,
//! <https://element-hq.github.io/synapse/latest/admin_api/register_api.html>

use axum::{Extension, Json, extract::State};
use parley_client_api::{ClientAddress, JsonBody, Result};
use parley_engine::{
    Engine, accounts::SharedSecretRegistration, devices::LoginOptions, limits::Action,
    settings::Secret,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Asks for a challenge.
pub(crate) async fn nonce(
    State(engine): State<Engine>,
    address: Option<Extension<ClientAddress>>,
) -> Result<Json<Value>> {
    limit(&engine, address)?;
    let nonce = engine.accounts().registration_nonce().await?;
    Ok(Json(json!({ "nonce": nonce })))
}

/// Who is to be registered. Not `Debug`: it holds a password.
#[derive(Deserialize)]
pub(crate) struct Request {
    nonce: String,
    username: String,
    password: String,
    #[serde(default)]
    admin: bool,
    user_type: Option<String>,
    mac: String,
    #[serde(default)]
    inhibit_login: bool,
}

/// Answers the challenge.
pub(crate) async fn register(
    State(engine): State<Engine>,
    address: Option<Extension<ClientAddress>>,
    JsonBody(request): JsonBody<Request>,
) -> Result<Json<Value>> {
    limit(&engine, address)?;
    let registration = SharedSecretRegistration {
        nonce: request.nonce,
        username: request.username,
        password: Secret::new(request.password),
        admin: request.admin,
        user_type: request.user_type,
        mac: request.mac,
    };
    let accounts = engine.accounts();
    let account = accounts.register_by_shared_secret(registration).await?;
    let home_server = account.user_id.server_name();
    if request.inhibit_login {
        let answer = json!({ "user_id": account.user_id, "home_server": home_server });
        return Ok(Json(answer));
    }
    let login = engine
        .devices()
        .log_in(account.user_nid, &account.user_id, LoginOptions::default())
        .await?;
    Ok(Json(json!({
        "user_id": login.user_id,
        "home_server": home_server,
        "access_token": login.access_token,
        "device_id": login.device_id,
    })))
}

fn limit(engine: &Engine, address: Option<Extension<ClientAddress>>) -> Result<()> {
    if let Some(Extension(ClientAddress(address))) = address {
        engine.limits().check(Action::Registration, address)?;
    }
    Ok(())
}
