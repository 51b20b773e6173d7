//! `PUT /_matrix/client/v3/directory/room/{roomAlias}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3directoryroomroomalias>

use http::StatusCode;
use parley_engine::limits::Action;
use ruma::api::{
    client::alias::create_alias::v3::{Request, Response},
    error::ErrorKind,
};

use crate::{ApiError, ClientApi, Incoming, Result, endpoints::admit};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    admit(&api, &incoming.session, Action::Write)?;
    let alias = &incoming.room_alias;
    let made = api
        .engine
        .rooms()
        .create_alias(&incoming.session, alias, &incoming.room_id)
        .await;
    match made {
        Ok(()) => Ok(Response::new()),
        // This one endpoint has its own status and code for it.
        Err(error) if error.kind() == Some(&ErrorKind::RoomInUse) => Err(ApiError::with_status(
            StatusCode::CONFLICT,
            ErrorKind::Unknown,
            error.to_string(),
        )),
        Err(error) => Err(error.into()),
    }
}
