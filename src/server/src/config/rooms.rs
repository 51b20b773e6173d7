//! `[rooms]`

use parley_protocol::RoomVersion;
use ruma::RoomVersionId;
use serde::{Deserialize, Serialize};

use super::error::Invalid;

/// Defaults and limits of rooms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rooms {
    /// The version of a new room whose creator doesn't ask for another; a stable one.
    pub default_version: RoomVersionId,
    /// How many rooms a user may be joined to; 0 is as many as they like.
    pub max_joined: u32,
    /// Whether a room that a user leaves, or is put out of, is forgotten at once.
    pub forget_on_leave: bool,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            default_version: RoomVersionId::V12,
            max_joined: 5_000,
            forget_on_leave: false,
        }
    }
}

impl Rooms {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let version = &self.default_version;
        let wrong = match RoomVersion::new(version) {
            Some(known) if known.is_stable() => return Ok(()),
            Some(_) => format!(
                "room version `{version}` is unstable, so that rooms of it have to be asked for"
            ),
            None => format!("there is no room version `{version}`"),
        };
        Err(Invalid::new("rooms.default_version", wrong))
    }
}
