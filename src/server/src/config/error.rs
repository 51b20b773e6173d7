//! What can be wrong with a configuration.

use std::{io, path::PathBuf};

use super::tree::Origin;

/// Why a configuration was refused. The message is a sentence for an administrator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// The file that was named.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// File and line.
        origin: Origin,
        /// What the parser said.
        message: String,
    },
    /// A key that no section has.
    #[error("{origin}: unknown key `{key}`{}", did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// Where it was written.
        origin: Origin,
        /// The key with its section, `section.key`.
        key: String,
        /// The known key that it resembles most.
        nearest: Option<String>,
    },
    /// A value of the wrong type, out of range, or in contradiction to another.
    #[error("{}`{key}`: {message}", at(origin.as_ref()))]
    Value {
        /// Where it was written; none for a default.
        origin: Option<Origin>,
        /// The key with its section, `section.key`.
        key: String,
        /// What is wrong.
        message: String,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| {
        format!("; did you mean `{nearest}`?")
    })
}

fn at(origin: Option<&Origin>) -> String {
    origin.map_or_else(String::new, |origin| format!("{origin}: "))
}

/// A section's own objection; the place is added from the tree.
#[derive(Debug)]
pub(super) struct Invalid {
    pub(super) key: &'static str,
    pub(super) message: String,
}

impl Invalid {
    pub(super) fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self {
            key,
            message: message.into(),
        }
    }
}
