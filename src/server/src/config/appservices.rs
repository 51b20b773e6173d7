//! `[appservices]`

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Bridges and bots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Appservices {
    /// The files that register them, YAML.
    pub registrations: Vec<PathBuf>,
}
