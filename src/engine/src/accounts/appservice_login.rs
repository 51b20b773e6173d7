//! Application services that log in as their users.

use ruma::UserId;

use super::{Account, Accounts};
use crate::{EngineError, Result, appservices::Appservice};

impl Accounts {
    /// The account of a user, named by ID or localpart, as whom an application service logs in.
    ///
    /// # Errors
    /// `M_EXCLUSIVE` if the user isn't one of its own, `M_FORBIDDEN` if they have no account; `M_USER_LOCKED`,
    /// `M_USER_DEACTIVATED`.
    pub async fn log_in_by_appservice(
        &self,
        appservice: &Appservice,
        user: &str,
    ) -> Result<Account> {
        let nobody = || EngineError::forbidden("the user has not been registered");
        let user_id = UserId::parse_with_server_name(user, &self.settings.server_name)
            .map_err(|_| nobody())?;
        self.appservices.check_user(Some(appservice), &user_id)?;
        if user_id.as_str().contains('\0') {
            return Err(nobody());
        }
        let row = parley_storage::accounts::find(&self.database, user_id.as_str()).await?;
        self.admitted(row.ok_or_else(nobody)?)
    }
}
