//! Events that are sent later, unless their client says otherwise in time:
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4140>

mod get;
mod list;
mod manage;
mod manage_by_body;
mod maybe;
mod schedule;

use axum::Router;
use parley_engine::delayed_events::DelayedEvent;
use serde_json::{Value, json, value::RawValue};

pub(super) use self::{maybe::MaybeDelayed, schedule::schedule};
use crate::{ApiError, ClientApi, Result, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, schedule::handle);
    let router = route(router, list::handle);
    let router = route(router, get::handle);
    let router = route(router, manage_by_body::handle);
    route(router, manage::handle)
}

/// A delayed event as its owner sees it. Delay and begin are told twice, by the names of the present proposal and by those
/// that the clients of today know.
fn shown(event: &DelayedEvent) -> Result<Value> {
    let json = |text: &str| -> Result<Box<RawValue>> {
        RawValue::from_string(text.to_owned()).map_err(|_| ApiError::internal())
    };
    let mut shown = json!({
        "delay_id": event.delay_id,
        "room_id": event.room_id,
        "type": event.event_type,
        "delay_ms": event.delay,
        "delay": event.delay,
        "scheduled_at": event.started_at,
        "running_since": event.started_at,
        "content": json(&event.content)?,
    });
    if let Some(state_key) = &event.state_key {
        shown["state_key"] = state_key.as_str().into();
    }
    let Some(outcome) = &event.outcome else {
        return Ok(shown);
    };
    shown["finalised_ts"] = outcome.finalised_at.into();
    if let Some(event_id) = &outcome.event_id {
        shown["event_id"] = event_id.as_str().into();
    }
    if let Some(error) = &outcome.error {
        shown["error"] = serde_json::from_str(error).map_err(|_| ApiError::internal())?;
    }
    Ok(shown)
}
