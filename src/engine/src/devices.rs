//! Devices: logging in and out, and the list that a user sees.

mod login;
mod refresh;

use std::sync::Arc;

use parley_storage::{
    Database, Transaction,
    devices::{self, DeviceRow},
    tokens,
};
use ruma::{DeviceId, OwnedDeviceId, UserId, api::client::device::Device};

pub use self::{
    login::{Login, LoginOptions},
    refresh::Refreshed,
};
use crate::{
    EngineError, Result,
    clock::{Clock, timestamp},
    hooks::AccountHooks,
    random::Random,
    sessions::{Session, Sessions},
    settings::{AccountLimits, EngineSettings, TokenSettings},
    text,
};

/// The devices of this server's users.
#[derive(Clone, Debug)]
pub struct Devices {
    database: Database,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    settings: TokenSettings,
    limits: AccountLimits,
    sessions: Sessions,
    hooks: Arc<dyn AccountHooks>,
}

/// Devices that a transaction removed: to be told when it is committed.
#[derive(Debug)]
#[must_use = "the sessions of these devices are still in memory"]
pub(crate) struct DeletedDevices {
    devices: Vec<(i64, OwnedDeviceId)>,
    access_tokens: Vec<Vec<u8>>,
}

impl Devices {
    pub(crate) fn new(
        database: &Database,
        clock: &Arc<dyn Clock>,
        random: &Arc<dyn Random>,
        settings: &EngineSettings,
        sessions: &Sessions,
        hooks: &Arc<dyn AccountHooks>,
    ) -> Self {
        Self {
            database: database.clone(),
            clock: Arc::clone(clock),
            random: Arc::clone(random),
            settings: settings.tokens.clone(),
            limits: settings.limits.clone(),
            sessions: sessions.clone(),
            hooks: Arc::clone(hooks),
        }
    }

    /// All devices of a user, the oldest first.
    pub async fn list(&self, user_nid: i64) -> Result<Vec<Device>> {
        let rows = devices::list(&self.database, user_nid).await?;
        Ok(rows.into_iter().map(shown).collect())
    }

    /// One device of a user.
    ///
    /// # Errors
    /// `M_NOT_FOUND`.
    pub async fn get(&self, user_nid: i64, device_id: &DeviceId) -> Result<Device> {
        let row = devices::find(&self.database, user_nid, device_id.as_str()).await?;
        Ok(shown(row.ok_or_else(not_found)?))
    }

    /// Calls a device otherwise.
    ///
    /// # Errors
    /// `M_NOT_FOUND`; `M_INVALID_PARAM` if the name is too long.
    pub async fn rename(
        &self,
        user_nid: i64,
        user_id: &UserId,
        device_id: &DeviceId,
        name: &str,
    ) -> Result<()> {
        text::check_device_name(name)?;
        let mut transaction = self.database.write().await?;
        let found =
            devices::rename(&mut transaction, user_nid, device_id.as_str(), Some(name)).await?;
        if !found {
            return Err(not_found());
        }
        transaction.commit().await?;
        self.hooks
            .on_device_renamed(user_nid, user_id, device_id)
            .await
    }

    /// Makes a device that nobody is logged in on, for an application service, or calls the one that is there otherwise.
    /// Whether it was made.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if its ID or name can't be, `M_USER_LIMIT_EXCEEDED`.
    pub async fn make(
        &self,
        session: &Session,
        device_id: &DeviceId,
        name: Option<&str>,
    ) -> Result<bool> {
        text::check_device_id(device_id)?;
        text::check_device_name(name.unwrap_or_default())?;
        let user_nid = session.user_nid;
        let mut transaction = self.database.write().await?;
        let known = devices::find_in(&mut transaction, user_nid, device_id.as_str()).await?;
        if known.is_some() {
            drop(transaction);
            if let Some(name) = name {
                self.rename(user_nid, &session.user_id, device_id, name)
                    .await?;
            }
            return Ok(false);
        }
        self.check_count(&mut transaction, user_nid).await?;
        let now = self.clock.now_ms();
        devices::insert(&mut transaction, user_nid, device_id.as_str(), name, now).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Logs out the device of a session.
    pub async fn log_out(&self, session: &Session) -> Result<()> {
        match &session.device_id {
            Some(device) => {
                let devices = vec![device.clone()];
                self.delete(session.user_nid, &session.user_id, devices)
                    .await
            }
            None => Ok(()),
        }
    }

    /// Logs out devices of a user, which removes them. Those that aren't there are passed over.
    pub async fn delete(
        &self,
        user_nid: i64,
        user_id: &UserId,
        device_ids: Vec<OwnedDeviceId>,
    ) -> Result<()> {
        let ids = device_ids.into_iter().map(|id| id.to_string()).collect();
        let mut transaction = self.database.write().await?;
        let rows = devices::find_many(&mut transaction, user_nid, ids).await?;
        let deleted = delete_in(&mut transaction, rows).await?;
        transaction.commit().await?;
        self.announce(user_nid, user_id, deleted).await
    }

    /// Logs out all devices of a user, or all but one.
    pub async fn delete_all_except(
        &self,
        user_nid: i64,
        user_id: &UserId,
        kept: Option<i64>,
    ) -> Result<()> {
        let mut transaction = self.database.write().await?;
        let deleted = Self::delete_all_except_in(&mut transaction, user_nid, kept).await?;
        transaction.commit().await?;
        self.announce(user_nid, user_id, deleted).await
    }

    /// The same within a transaction; to be followed by [`Devices::announce`] when it is committed.
    pub(crate) async fn delete_all_except_in(
        transaction: &mut Transaction,
        user_nid: i64,
        kept: Option<i64>,
    ) -> Result<DeletedDevices> {
        let rows = devices::find_all_except(transaction, user_nid, kept).await?;
        delete_in(transaction, rows).await
    }

    /// Ends the sessions of deleted devices and tells who needs to know.
    pub(crate) async fn announce(
        &self,
        user_nid: i64,
        user_id: &UserId,
        deleted: DeletedDevices,
    ) -> Result<()> {
        self.sessions.end(&deleted.access_tokens);
        if deleted.devices.is_empty() {
            return Ok(());
        }
        self.hooks
            .on_devices_deleted(user_nid, user_id, &deleted.devices)
            .await
    }
}

async fn delete_in(
    transaction: &mut Transaction,
    rows: Vec<(i64, String)>,
) -> Result<DeletedDevices> {
    let nids: Vec<i64> = rows.iter().map(|(nid, _)| *nid).collect();
    let access_tokens = tokens::delete_of_devices(transaction, nids.clone()).await?;
    devices::delete(transaction, nids).await?;
    Ok(DeletedDevices {
        devices: rows
            .into_iter()
            .map(|(nid, device_id)| (nid, device_id.into()))
            .collect(),
        access_tokens,
    })
}

fn shown(row: DeviceRow) -> Device {
    let mut device = Device::new(row.device_id.into());
    device.display_name = row.display_name;
    device.last_seen_ip = row.last_seen_address;
    device.last_seen_ts = row.last_seen_at.map(timestamp);
    device
}

fn not_found() -> EngineError {
    EngineError::not_found("you have no such device")
}
