//! `[log]`

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::Targets;

use super::error::Invalid;

/// What is logged to standard error, in which form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// A level, or targets with levels: `info,parley_engine=debug`.
    pub filter: String,
}

/// The form of a logged line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            filter: "info".to_owned(),
        }
    }
}

impl Log {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        match self.filter.parse::<Targets>() {
            Ok(_) => Ok(()),
            Err(error) => Err(Invalid::new("log.filter", error.to_string())),
        }
    }
}
