//! The endpoints, by area.

pub(crate) mod account_data;
pub(crate) mod accounts;
pub(crate) mod administration;
pub(crate) mod calls;
pub(crate) mod contacts;
pub(crate) mod delayed_events;
pub(crate) mod devices;
pub(crate) mod directory;
pub(crate) mod discovery;
pub(crate) mod filters;
pub(crate) mod login;
pub(crate) mod presence;
pub(crate) mod profiles;
pub(crate) mod push;
pub(crate) mod receipts;
pub(crate) mod rooms;
pub(crate) mod sync;
pub(crate) mod typing;
pub(crate) mod users;

use parley_engine::{EngineError, limits::Action, sessions::Session};
use ruma::UserId;

use crate::{ClientApi, Result};

/// Lets pass who may write at all, and hasn't done so too often.
///
/// # Errors
/// `M_USER_SUSPENDED`, `M_LIMIT_EXCEEDED`.
pub(crate) fn admit(api: &ClientApi, session: &Session, action: Action) -> Result<()> {
    session.may_write()?;
    Ok(api.engine.limits().check(action, session.user_nid)?)
}

/// Lets pass who asks for what is their own.
///
/// # Errors
/// `M_FORBIDDEN`.
fn check_own(session: &Session, user_id: &UserId) -> Result<()> {
    if session.user_id == user_id {
        return Ok(());
    }
    Err(EngineError::forbidden("you may do that for yourself only").into())
}
