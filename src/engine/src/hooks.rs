//! What other parts of the server do when an account changes.

use std::fmt;

use futures::future::BoxFuture;
use ruma::{DeviceId, OwnedDeviceId, UserId};

use crate::Result;

/// Told of changes to accounts, after they are in the database.
///
/// Accounts know nothing of rooms, keys or sync; who does hears of it here. Each method does nothing by default.
pub trait AccountHooks: fmt::Debug + Send + Sync {
    /// A user was deactivated and has to leave all rooms. Called again at the next start if it fails or the server stops
    /// before it returned; so it has to cope with rooms that were left already.
    fn leave_all_rooms<'a>(
        &'a self,
        _user_nid: i64,
        _user_id: &'a UserId,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// Devices of a user were logged out, and are gone.
    fn on_devices_deleted<'a>(
        &'a self,
        _user_nid: i64,
        _user_id: &'a UserId,
        _devices: &'a [(i64, OwnedDeviceId)],
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// A device is called otherwise, which those who share an encrypted room may see.
    fn on_device_renamed<'a>(
        &'a self,
        _user_nid: i64,
        _user_id: &'a UserId,
        _device_id: &'a DeviceId,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// Fields of a profile have other values; `displayname` and `avatar_url` also stand in the membership of each room.
    fn on_profile_change<'a>(
        &'a self,
        _user_nid: i64,
        _user_id: &'a UserId,
        _fields: &'a [&'a str],
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// Tells all of them, one after the other; stops at the first that fails.
impl AccountHooks for Vec<std::sync::Arc<dyn AccountHooks>> {
    fn leave_all_rooms<'a>(
        &'a self,
        user_nid: i64,
        user_id: &'a UserId,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for hooks in self {
                hooks.leave_all_rooms(user_nid, user_id).await?;
            }
            Ok(())
        })
    }

    fn on_devices_deleted<'a>(
        &'a self,
        user_nid: i64,
        user_id: &'a UserId,
        devices: &'a [(i64, OwnedDeviceId)],
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for hooks in self {
                hooks.on_devices_deleted(user_nid, user_id, devices).await?;
            }
            Ok(())
        })
    }

    fn on_device_renamed<'a>(
        &'a self,
        user_nid: i64,
        user_id: &'a UserId,
        device_id: &'a DeviceId,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for hooks in self {
                hooks
                    .on_device_renamed(user_nid, user_id, device_id)
                    .await?;
            }
            Ok(())
        })
    }

    fn on_profile_change<'a>(
        &'a self,
        user_nid: i64,
        user_id: &'a UserId,
        fields: &'a [&'a str],
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for hooks in self {
                hooks.on_profile_change(user_nid, user_id, fields).await?;
            }
            Ok(())
        })
    }
}
