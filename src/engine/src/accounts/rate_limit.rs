//! Rate limits of single users, in the place of the usual ones.

use parley_storage::rate_limits::{self, RateLimitOverride};
use ruma::UserId;

use super::Accounts;
use crate::{Result, limits::UserLimit};

impl Accounts {
    /// The limit of a user who has one of their own.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such account or it is deactivated.
    pub async fn rate_limit(&self, user_id: &UserId) -> Result<Option<UserLimit>> {
        let user_nid = self.existing(user_id).await?.user_nid;
        Ok(self.limits.of_user(user_nid))
    }

    /// Gives a user a limit of their own, or the usual ones again.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such account or it is deactivated.
    pub async fn set_rate_limit(&self, user_id: &UserId, limit: Option<UserLimit>) -> Result<()> {
        let user_nid = self.existing(user_id).await?.user_nid;
        let mut transaction = self.database.write().await?;
        match limit {
            Some(limit) => {
                let row = RateLimitOverride {
                    user_nid,
                    per_second: limit.per_second.into(),
                    burst: limit.burst.into(),
                };
                rate_limits::set(&mut transaction, row).await?;
            }
            None => rate_limits::remove(&mut transaction, user_nid).await?,
        }
        transaction.commit().await?;
        self.limits.user_changed(user_nid, limit);
        Ok(())
    }
}
