//! `POST /_synapse/admin/v1/send_server_notice` and `PUT /_synapse/admin/v1/send_server_notice/{txnId}`: what the server
//! has to tell one of its users, <https://element-hq.github.io/synapse/latest/admin_api/server_notices.html>

use axum::{
    Json,
    extract::{Path, State},
};
use parley_client_api::{JsonBody, Result};
use parley_engine::{Engine, EngineError, rooms::notices::Notice};
use ruma::UserId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::administrator::Administrator;

/// Of an administrator's transaction ID, in bytes.
const MAX_TRANSACTION_ID: usize = 255;

/// Whom to tell what. What is required is optional here, so that what is missing is named by the right error.
#[derive(Deserialize)]
pub(crate) struct Request {
    user_id: Option<String>,
    content: Option<Map<String, Value>>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    state_key: Option<String>,
}

/// Sends a notice, each time that it is asked.
pub(crate) async fn send(
    State(engine): State<Engine>,
    _: Administrator,
    JsonBody(request): JsonBody<Request>,
) -> Result<Json<Value>> {
    notify(&engine, request, None).await
}

/// Sends a notice once, however often the same administrator's device asks for it.
pub(crate) async fn send_once(
    State(engine): State<Engine>,
    Administrator(session): Administrator,
    Path(transaction_id): Path<String>,
    JsonBody(request): JsonBody<Request>,
) -> Result<Json<Value>> {
    if transaction_id.len() > MAX_TRANSACTION_ID {
        let message = format!("a transaction ID has at most {MAX_TRANSACTION_ID} bytes");
        return Err(EngineError::invalid_param(message).into());
    }
    // All notices are sent by one user without a device, so that administrators have to be told apart here.
    let transaction_id = format!("{}/{transaction_id}", session.device_nid);
    notify(&engine, request, Some(transaction_id)).await
}

async fn notify(
    engine: &Engine,
    request: Request,
    transaction_id: Option<String>,
) -> Result<Json<Value>> {
    let missing = |key| EngineError::missing_param(format!("`{key}` is required"));
    let user_id = request.user_id.ok_or_else(|| missing("user_id"))?;
    let user_id = UserId::parse(user_id)
        .map_err(|_| EngineError::invalid_param("`user_id` is not a user ID"))?;
    let notice = Notice {
        event_type: request
            .event_type
            .unwrap_or_else(|| "m.room.message".to_owned()),
        state_key: request.state_key,
        content: request.content.ok_or_else(|| missing("content"))?,
        transaction_id,
    };
    let event_id = engine.rooms().notify(&user_id, notice).await?;
    Ok(Json(json!({ "event_id": event_id })))
}
