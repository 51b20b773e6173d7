//! `GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomideventeventid>

use ruma::api::client::room::get_room_event::v3::Request;

use crate::{
    ClientApi, Incoming, RawJson, Result,
    events::{EventWriter, Shown},
};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let rooms = api.engine.rooms();
    let (event, access, room) = rooms
        .event(&incoming.session, &incoming.room_id, &incoming.event_id)
        .await?;
    let writer = EventWriter::in_room(&api, &incoming.session, &access, [&event]).await?;
    let shown = Shown::in_room(room.id()).with_access(&access);
    Ok(RawJson(writer.event(&event, shown).into()))
}
