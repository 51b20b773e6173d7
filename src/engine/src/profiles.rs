//! Profiles: what users tell about themselves, <https://spec.matrix.org/v1.19/client-server-api/#profiles>.

use std::sync::Arc;

use parley_storage::{Database, StorageError, Transaction, accounts, profiles};
use ruma::{OwnedServerName, OwnedUserId, UserId, api::error::ErrorKind};
use serde_json::Value;

use crate::{
    EngineError, Result,
    background::Background,
    hooks::AccountHooks,
    limits::{Action, Limits},
    remote::Outside,
    sessions::{AccountKind, Session},
    settings::EngineSettings,
    text,
    user_directory::UserDirectory,
};

/// Of a display name, in bytes.
pub(crate) const MAX_DISPLAY_NAME: usize = 512;
/// Of the address of a picture, in bytes.
pub(crate) const MAX_AVATAR_URL: usize = 1_024;

/// What also stands in the membership of each room.
const SHOWN_IN_ROOMS: [&str; 2] = ["displayname", "avatar_url"];
/// What is a string where it is set; any other field may hold any JSON, null included.
const STRINGS: [&str; 3] = ["displayname", "avatar_url", "m.tz"];

/// The profiles of this server's users.
#[derive(Clone, Debug)]
pub struct Profiles {
    database: Database,
    limits: Limits,
    hooks: Arc<dyn AccountHooks>,
    /// A profile is smaller than this, in bytes of JSON.
    size: u32,
    server_name: OwnedServerName,
    outside: Outside,
}

impl Profiles {
    pub(crate) fn new(
        database: &Database,
        limits: &Limits,
        settings: &EngineSettings,
        hooks: &Arc<dyn AccountHooks>,
        outside: &Outside,
    ) -> Self {
        Self {
            database: database.clone(),
            limits: limits.clone(),
            hooks: Arc::clone(hooks),
            size: settings.limits.profile_size,
            server_name: settings.server_name.clone(),
            outside: outside.clone(),
        }
    }

    /// All fields of a profile, with their values as JSON. Of a user of another server, as that tells it.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such user, or their server isn't reached.
    pub async fn get(&self, user_id: &UserId) -> Result<Vec<(String, String)>> {
        if user_id.server_name() != self.server_name {
            return self.ask(user_id, None).await;
        }
        let user_nid = self.user_nid(user_id).await?;
        Ok(self.database.profile(user_nid).await?)
    }

    /// The value of a field, as JSON. Of a user of another server, as that tells it.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the field isn't set, there is no such user, or their server isn't reached.
    pub async fn get_field(&self, user_id: &UserId, field: &str) -> Result<String> {
        if user_id.server_name() != self.server_name {
            let told = self.ask(user_id, Some(field)).await?;
            let value = told.into_iter().find(|(name, _)| name == field);
            return value.map(|(_, value)| value).ok_or_else(not_set);
        }
        let user_nid = self.user_nid(user_id).await?;
        if field.contains('\0') {
            return Err(not_set());
        }
        let value = profiles::find(&self.database, user_nid, field).await?;
        value.ok_or_else(not_set)
    }

    /// Asks the server of a user. What by its definition is a string and isn't one there, such as the null of servers that
    /// tell of a field that it isn't set, is taken for not set.
    async fn ask(&self, user_id: &UserId, field: Option<&str>) -> Result<Vec<(String, String)>> {
        let unknown = || EngineError::not_found("there is no such user on this server");
        let remote = self.outside.get().ok_or_else(unknown)?;
        let server = user_id.server_name();
        let told = remote.query_profile(server, user_id, field).await?;
        let may_be = |field: &str, value: &Value| value.is_string() || !STRINGS.contains(&field);
        Ok(told
            .into_iter()
            .filter(|(field, value)| may_be(field, value))
            .map(|(field, value)| (field, value.to_string()))
            .collect())
    }

    /// Sets a field of one's own profile. An empty or null `displayname` or `avatar_url` removes it, as clients from
    /// before v1.16 of the specification do.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if it is someone else's; `M_USER_SUSPENDED`, `M_LIMIT_EXCEEDED`; `M_INVALID_PARAM`,
    /// `M_KEY_TOO_LARGE`, `M_BAD_JSON` and `M_PROFILE_TOO_LARGE` where the field or the value can't be.
    pub async fn set_field(
        &self,
        session: &Session,
        user_id: &UserId,
        field: &str,
        value: &Value,
    ) -> Result<()> {
        self.check_may_change(session, user_id)?;
        text::check_profile_field(field)?;
        let plain = matches!(field, "displayname" | "avatar_url");
        if plain && (value.is_null() || value.as_str() == Some("")) {
            return self.remove(session, field).await;
        }
        check_value(field, value)?;
        let mut transaction = self.database.write().await?;
        profiles::set(
            &mut transaction,
            session.user_nid,
            field,
            &value.to_string(),
        )
        .await?;
        let size = profiles::size(&mut transaction, session.user_nid).await?;
        if size >= i64::from(self.size) {
            return Err(EngineError::refused(
                ErrorKind::ProfileTooLarge,
                format!("your profile would have {} bytes or more", self.size),
            ));
        }
        self.commit(session, field, transaction).await
    }

    /// Removes a field of one's own profile, if it is set.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if it is someone else's; `M_USER_SUSPENDED`, `M_LIMIT_EXCEEDED`; `M_INVALID_PARAM` or
    /// `M_KEY_TOO_LARGE` if there can't be such a field.
    pub async fn delete_field(
        &self,
        session: &Session,
        user_id: &UserId,
        field: &str,
    ) -> Result<()> {
        self.check_may_change(session, user_id)?;
        text::check_profile_field(field)?;
        self.remove(session, field).await
    }

    async fn remove(&self, session: &Session, field: &str) -> Result<()> {
        let mut transaction = self.database.write().await?;
        if !profiles::delete(&mut transaction, session.user_nid, field).await? {
            return Ok(());
        }
        self.commit(session, field, transaction).await
    }

    async fn commit(
        &self,
        session: &Session,
        field: &str,
        mut transaction: Transaction,
    ) -> Result<()> {
        if field == "displayname" && session.kind != AccountKind::Guest {
            UserDirectory::list(&mut transaction, session.user_nid).await?;
        }
        if !SHOWN_IN_ROOMS.contains(&field) {
            transaction.commit().await?;
            let (user_nid, user_id) = (session.user_nid, &session.user_id);
            return self
                .hooks
                .on_profile_change(user_nid, user_id, &[field])
                .await;
        }
        profiles::note_change(&mut transaction, session.user_nid).await?;
        transaction.commit().await?;
        self.announce(session.user_nid, &session.user_id).await
    }

    /// Tells a user's rooms what their name and picture are, until that is what they were told last.
    async fn announce(&self, user_nid: i64, user_id: &UserId) -> Result<()> {
        loop {
            let revision = self.database.profile_revision(user_nid).await?;
            self.hooks
                .on_profile_change(user_nid, user_id, &SHOWN_IN_ROOMS)
                .await?;
            // If there was another change meanwhile, here or on another node, it isn't known which came last into which room.
            if self.database.profile_is_told(user_nid, revision).await? {
                return Ok(());
            }
        }
    }

    /// Has rooms told of changes where that was begun before the last stop.
    pub(crate) fn resume(&self, background: &Background) {
        let (profiles, stopping) = (self.clone(), background.stopping().clone());
        background.spawn(async move {
            let told = stopping.run_until_cancelled(profiles.finish_announcing());
            if let Some(Err(error)) = told.await {
                tracing::error!(%error, "rooms could not be told of changed profiles");
            }
        });
    }

    async fn finish_announcing(&self) -> Result<()> {
        for (user_nid, user_id) in self.database.untold_profiles().await? {
            let user_id = OwnedUserId::try_from(user_id)
                .map_err(|error| StorageError::Corrupt(error.to_string()))?;
            self.announce(user_nid, &user_id).await?;
        }
        Ok(())
    }

    fn check_may_change(&self, session: &Session, user_id: &UserId) -> Result<()> {
        if session.user_id != user_id {
            return Err(EngineError::forbidden(
                "you can change no profile but your own",
            ));
        }
        session.may_write()?;
        self.limits.check(Action::Write, session.user_nid)
    }

    async fn user_nid(&self, user_id: &UserId) -> Result<i64> {
        let unknown = || EngineError::not_found("there is no such user on this server");
        if user_id.as_str().contains('\0') {
            return Err(unknown());
        }
        let account = accounts::find(&self.database, user_id.as_str()).await?;
        Ok(account.ok_or_else(unknown)?.user_nid)
    }
}

/// Demands of a value what the field's definition demands.
fn check_value(field: &str, value: &Value) -> Result<()> {
    let max = match field {
        "displayname" => MAX_DISPLAY_NAME,
        "avatar_url" => MAX_AVATAR_URL,
        "m.tz" => 255,
        // Any JSON, within the size of the whole.
        _ => return Ok(()),
    };
    let Some(text) = value.as_str() else {
        return Err(EngineError::bad_json(format!("{field} has to be a string")));
    };
    if text.len() > max {
        return Err(EngineError::invalid_param(format!(
            "{field} has at most {max} bytes"
        )));
    }
    Ok(())
}

fn not_set() -> EngineError {
    EngineError::not_found("the profile has no such field")
}
