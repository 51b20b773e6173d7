//! `PUT /_matrix/client/v3/directory/list/room/{roomId}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3directorylistroomroomid>

use parley_engine::limits::Action;
use ruma::api::{
    client::{
        directory::set_room_visibility::v3::{Request, Response},
        room::Visibility,
    },
    error::ErrorKind,
};

use crate::{ApiError, ClientApi, Incoming, Result, endpoints::admit};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    admit(&api, &incoming.session, Action::Write)?;
    let published = match incoming.visibility {
        Visibility::Public => true,
        Visibility::Private => false,
        _ => {
            return Err(ApiError::new(
                ErrorKind::InvalidParam,
                "`visibility` is public or private",
            ));
        }
    };
    api.engine
        .rooms()
        .publish(&incoming.session, &incoming.room_id, published)
        .await?;
    Ok(Response::new())
}
