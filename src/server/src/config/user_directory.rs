//! `[user_directory]`

use serde::{Deserialize, Serialize};

/// Whom users find by a search.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserDirectory {
    /// Whether all users of this server are found, or only those in a common or public room.
    pub all_users: bool,
}
