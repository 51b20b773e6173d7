//! The endpoints, by area.

pub(crate) mod accounts;
pub(crate) mod devices;
pub(crate) mod directory;
pub(crate) mod discovery;
pub(crate) mod filters;
pub(crate) mod login;
pub(crate) mod profiles;
pub(crate) mod rooms;
pub(crate) mod sync;

use parley_engine::{limits::Action, sessions::Session};

use crate::{ClientApi, Result};

/// Lets pass who may write at all, and hasn't done so too often.
///
/// # Errors
/// `M_USER_SUSPENDED`, `M_LIMIT_EXCEEDED`.
pub(crate) fn admit(api: &ClientApi, session: &Session, action: Action) -> Result<()> {
    session.may_write()?;
    Ok(api.engine.limits().check(action, session.user_nid)?)
}
