//! Where notifications are pushed to.

use crate::{Database, Result, Transaction, accounts, statement::statement};

/// A pusher that is to be stored.
#[derive(Clone, Debug)]
pub struct NewPusher {
    /// Whose.
    pub user_nid: i64,
    /// The device that makes it; 0 where there is none.
    pub device_nid: i64,
    /// The application that is told.
    pub app_id: String,
    /// Which of its installations.
    pub pushkey: String,
    /// JSON.
    pub content: String,
    /// Milliseconds since the epoch.
    pub created_at: i64,
}

impl Database {
    /// The pushers of a user, JSON, the oldest first.
    pub async fn pushers_of(&self, user_nid: i64) -> Result<Vec<String>> {
        let rows: Vec<(String,)> =
            statement("SELECT content FROM pushers WHERE user_nid = $1 ORDER BY nid")
                .bind(user_nid)
                .all(self)
                .await?;
        Ok(rows.into_iter().map(|(content,)| content).collect())
    }

    /// Stores a pusher in the place of the user's that has the same application and key; with `alone` also in the place
    /// of those of other users. `false` if the user has `most` others; 0 is as many as they like.
    pub async fn set_pusher(&self, pusher: NewPusher, alone: bool, most: u32) -> Result<bool> {
        let mut transaction = self.write().await?;
        accounts::hold(&mut transaction, pusher.user_nid).await?;
        if most > 0 && count_others(&mut transaction, &pusher).await? >= i64::from(most) {
            return Ok(false);
        }
        if alone {
            statement("DELETE FROM pushers WHERE app_id = $1 AND pushkey = $2 AND user_nid <> $3")
                .bind(pusher.app_id.as_str())
                .bind(pusher.pushkey.as_str())
                .bind(pusher.user_nid)
                .run(&mut transaction)
                .await?;
        }
        statement(
            "INSERT INTO pushers (user_nid, device_nid, app_id, pushkey, content, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (user_nid, app_id, pushkey) DO UPDATE SET \
             device_nid = excluded.device_nid, content = excluded.content",
        )
        .bind(pusher.user_nid)
        .bind(pusher.device_nid)
        .bind(pusher.app_id)
        .bind(pusher.pushkey)
        .bind(pusher.content)
        .bind(pusher.created_at)
        .run(&mut transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Removes a pusher, if it is there.
    pub async fn remove_pusher(&self, user_nid: i64, app_id: &str, pushkey: &str) -> Result<()> {
        let mut transaction = self.write().await?;
        statement("DELETE FROM pushers WHERE user_nid = $1 AND app_id = $2 AND pushkey = $3")
            .bind(user_nid)
            .bind(app_id)
            .bind(pushkey)
            .run(&mut transaction)
            .await?;
        transaction.commit().await
    }
}

/// How many pushers the user has beside the one whose place this takes.
async fn count_others(transaction: &mut Transaction, pusher: &NewPusher) -> Result<i64> {
    let (count,): (i64,) = statement(
        "SELECT COUNT(*) FROM pushers WHERE user_nid = $1 AND NOT (app_id = $2 AND pushkey = $3)",
    )
    .bind(pusher.user_nid)
    .bind(pusher.app_id.as_str())
    .bind(pusher.pushkey.as_str())
    .one_in(transaction)
    .await?;
    Ok(count)
}
