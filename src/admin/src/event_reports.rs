//! `GET /_synapse/admin/v1/event_reports`: what users have reported,
//! <https://element-hq.github.io/synapse/latest/admin_api/event_reports.html>

use axum::{
    Json,
    extract::{Query, State},
};
use http::{HeaderMap, header};
use parley_client_api::{ApiError, Result};
use parley_engine::{Engine, EngineError};
use parley_storage::reports::ReportQuery;
use ruma::{OwnedRoomId, OwnedUserId, api::error::ErrorKind};
use serde::Deserialize;
use serde_json::{Value, json};

/// Reports of a page unless another number is asked for.
const DEFAULT_LIMIT: i64 = 100;
/// The most reports of a page.
const MAX_LIMIT: i64 = 1_000;

/// Which reports are asked for.
#[derive(Deserialize)]
pub(crate) struct Request {
    from: Option<i64>,
    limit: Option<i64>,
    dir: Option<String>,
    user_id: Option<OwnedUserId>,
    room_id: Option<OwnedRoomId>,
}

/// Lists the reports of events, the newest first unless asked otherwise.
pub(crate) async fn list(
    State(engine): State<Engine>,
    headers: HeaderMap,
    Query(request): Query<Request>,
) -> Result<Json<Value>> {
    administrator(&engine, &headers).await?;
    let oldest_first = match request.dir.as_deref() {
        None | Some("b") => false,
        Some("f") => true,
        Some(_) => return Err(EngineError::invalid_param("`dir` is f or b").into()),
    };
    let (skip, limit) = (
        request.from.unwrap_or(0),
        request.limit.unwrap_or(DEFAULT_LIMIT),
    );
    if skip < 0 || limit < 0 {
        return Err(EngineError::invalid_param("`from` and `limit` are not negative").into());
    }
    let limit = limit.min(MAX_LIMIT);
    let query = ReportQuery {
        reporter: request.user_id.as_deref(),
        room_id: request.room_id.as_ref().map(|room_id| room_id.as_str()),
        oldest_first,
        skip,
        limit,
    };
    let (reports, total) = engine.rooms().event_reports(query).await?;
    let next = skip + i64::try_from(reports.len()).unwrap_or(limit);
    let reports: Vec<Value> = reports
        .into_iter()
        .map(|report| {
            json!({
                "id": report.nid,
                "received_ts": report.received_at,
                "room_id": report.room_id,
                "event_id": report.event_id,
                "user_id": report.reporter,
                "sender": report.sender,
                "reason": report.reason,
                "score": null,
            })
        })
        .collect();
    let mut answer = json!({ "event_reports": reports, "total": total });
    if next < total {
        answer["next_token"] = next.into();
    }
    Ok(Json(answer))
}

/// Lets administrators pass.
async fn administrator(engine: &Engine, headers: &HeaderMap) -> Result<()> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .ok_or_else(|| ApiError::new(ErrorKind::MissingToken, "an access token is required"))?;
    let session = engine.sessions().authenticate(token.trim(), None).await?;
    if session.admin && !session.locked {
        return Ok(());
    }
    Err(EngineError::forbidden("this is for administrators").into())
}
