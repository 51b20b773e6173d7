//! Stored filters.

mod create;
mod get;

use axum::Router;
use parley_engine::{EngineError, sessions::Session};
use ruma::UserId;

use crate::{ClientApi, Result, route};

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, create::handle);
    route(router, get::handle)
}

/// Everyone has filters of their own only.
fn check_own(session: &Session, user_id: &UserId) -> Result<()> {
    if session.user_id == user_id {
        return Ok(());
    }
    Err(EngineError::forbidden("these are the filters of someone else").into())
}
