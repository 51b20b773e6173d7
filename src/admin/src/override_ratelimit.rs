//! `GET`, `POST` and `DELETE /_synapse/admin/v1/users/{userId}/override_ratelimit`: rate limits of one user,
//! <https://element-hq.github.io/synapse/latest/admin_api/user_admin_api.html#override-ratelimiting-for-users>

use axum::{
    Json,
    extract::{Path, State},
};
use parley_client_api::{ApiError, JsonBody, Result};
use parley_engine::{Engine, limits::UserLimit};
use ruma::{OwnedUserId, UserId, api::error::ErrorKind};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::administrator::Administrator;

/// The limit, as it is sent.
#[derive(Deserialize)]
pub(crate) struct Request {
    #[serde(default)]
    messages_per_second: i64,
    #[serde(default)]
    burst_count: i64,
}

/// The limit of a user; an empty object if the usual ones hold.
pub(crate) async fn get(
    State(engine): State<Engine>,
    _: Administrator,
    Path(user_id): Path<String>,
) -> Result<Json<Value>> {
    let user_id = local(&engine, &user_id)?;
    let limit = engine.accounts().rate_limit(&user_id).await?;
    Ok(Json(limit.map_or_else(|| json!({}), answer)))
}

/// Gives a user a limit of their own; 0 per second is none at all.
pub(crate) async fn set(
    State(engine): State<Engine>,
    _: Administrator,
    Path(user_id): Path<String>,
    JsonBody(request): JsonBody<Request>,
) -> Result<Json<Value>> {
    let user_id = local(&engine, &user_id)?;
    let limit = UserLimit {
        per_second: number("messages_per_second", request.messages_per_second)?,
        burst: number("burst_count", request.burst_count)?,
    };
    engine
        .accounts()
        .set_rate_limit(&user_id, Some(limit))
        .await?;
    Ok(Json(answer(limit)))
}

/// Gives a user the usual limits again.
pub(crate) async fn remove(
    State(engine): State<Engine>,
    _: Administrator,
    Path(user_id): Path<String>,
) -> Result<Json<Value>> {
    let user_id = local(&engine, &user_id)?;
    engine.accounts().set_rate_limit(&user_id, None).await?;
    Ok(Json(json!({})))
}

fn answer(limit: UserLimit) -> Value {
    json!({ "messages_per_second": limit.per_second, "burst_count": limit.burst })
}

fn number(name: &str, number: i64) -> Result<u32> {
    u32::try_from(number).map_err(|_| invalid(format!("{name} must be between 0 and {}", u32::MAX)))
}

fn local(engine: &Engine, user_id: &str) -> Result<OwnedUserId> {
    let user_id = UserId::parse(user_id).map_err(|_| invalid("that is no user ID".to_owned()))?;
    match user_id.server_name() == engine.settings().server_name {
        true => Ok(user_id),
        false => Err(invalid("only users of this server have limits".to_owned())),
    }
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorKind::InvalidParam, message)
}
