//! `GET /_matrix/federation/v1/version`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1version>

use axum::Json;
use serde_json::{Value, json};

/// Tells which program this is.
pub(crate) async fn version() -> Json<Value> {
    Json(json!({ "server": { "name": "Parley", "version": env!("CARGO_PKG_VERSION") } }))
}
