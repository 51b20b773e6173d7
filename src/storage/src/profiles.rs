//! Profiles of users.

use crate::{Database, Result, statement::statement};

impl Database {
    /// The fields of a user's profile, with their values as JSON.
    pub async fn profile(&self, user_nid: i64) -> Result<Vec<(String, String)>> {
        statement("SELECT field, value FROM profiles WHERE user_nid = $1 ORDER BY field")
            .bind(user_nid)
            .all(self)
            .await
    }
}
