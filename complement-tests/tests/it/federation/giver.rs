//! A server that gives of a room what a test wants when it is asked, and nothing else.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post, put},
};
use parley_conformance::Peer;
use serde_json::{Value, json};

/// What a server gives of a room.
#[derive(Debug, Default)]
pub(super) struct Gives {
    /// The events of a gap; `None` if it doesn't tell them.
    pub(super) gap: Option<Vec<Value>>,
    /// A state, by the ids of its events.
    pub(super) state: Vec<(String, Value)>,
    /// Events that stand in no state, the oldest first: what is given of the past, too.
    pub(super) others: Vec<(String, Value)>,
}

pub(super) type Giver = Arc<Mutex<Gives>>;

async fn missing(State(gives): State<Giver>) -> (StatusCode, Json<Value>) {
    match &gives.lock().unwrap().gap {
        Some(gap) => (StatusCode::OK, Json(json!({ "events": gap }))),
        None => {
            let refusal = json!({ "errcode": "M_FORBIDDEN", "error": "not told" });
            (StatusCode::FORBIDDEN, Json(refusal))
        }
    }
}

async fn state_ids(State(gives): State<Giver>) -> Json<Value> {
    let gives = gives.lock().unwrap();
    let ids: Vec<&String> = gives.state.iter().map(|(id, _)| id).collect();
    Json(json!({ "pdu_ids": ids, "auth_chain_ids": ids }))
}

async fn one(State(gives): State<Giver>, Path(id): Path<String>) -> Json<Value> {
    let gives = gives.lock().unwrap();
    let mut all = gives.state.iter().chain(&gives.others);
    let pdus: Vec<&Value> = all
        .find(|(other, _)| *other == id)
        .map(|(_, event)| event)
        .into_iter()
        .collect();
    Json(json!({ "origin": "giver", "origin_server_ts": 1, "pdus": pdus }))
}

async fn past(State(gives): State<Giver>) -> Json<Value> {
    let gives = gives.lock().unwrap();
    let pdus: Vec<&Value> = gives.others.iter().map(|(_, event)| event).collect();
    Json(json!({ "origin": "giver", "origin_server_ts": 1, "pdus": pdus }))
}

/// A server that gives of a room what a test wants.
pub(super) async fn giver() -> (Peer, Giver) {
    let gives = Giver::default();
    let base = "/_matrix/federation/v1";
    let told = put(async || Json(json!({ "pdus": {} })));
    let router = Router::new()
        .route(&format!("{base}/send/{{id}}"), told)
        .route(
            &format!("{base}/get_missing_events/{{room}}"),
            post(missing),
        )
        .route(&format!("{base}/state_ids/{{room}}"), get(state_ids))
        .route(&format!("{base}/event/{{id}}"), get(one))
        .route(&format!("{base}/backfill/{{room}}"), get(past))
        .with_state(Arc::clone(&gives));
    (Peer::start(router).await, gives)
}
