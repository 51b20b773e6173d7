//! `GET /_matrix/client/v3/directory/list/room/{roomId}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3directorylistroomroomid>

use ruma::api::client::{
    directory::get_room_visibility::v3::{Request, Response},
    room::Visibility,
};

use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let published = api.engine.rooms().is_published(&incoming.room_id).await?;
    Ok(Response::new(match published {
        true => Visibility::Public,
        false => Visibility::Private,
    }))
}
