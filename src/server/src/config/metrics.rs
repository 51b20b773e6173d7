//! `[metrics]`

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The listener for Prometheus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Answers `/metrics`, `/health` and `/ready` by plain HTTP; without it there is no such listener.
    pub address: Option<SocketAddr>,
}
