//! `GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomideventeventid>

use parley_engine::{rooms::history::FoundEvent, sessions::Session};
use ruma::api::client::room::get_room_event::v3::Request;

use crate::{
    ClientApi, Incoming, RawJson, Result,
    events::{EventWriter, Shown},
};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let session = &incoming.session;
    let rooms = api.engine.rooms();
    let found = rooms.event(session, &incoming.room_id, &incoming.event_id);
    shown(&api, session, found.await?).await
}

/// An event as who has asked for it gets it.
pub(super) async fn shown(
    api: &ClientApi,
    session: &Session,
    (event, access, room): FoundEvent,
) -> Result<RawJson> {
    let writer = EventWriter::in_room(api, session, &access, [&event]).await?;
    let shown = Shown::in_room(room.id()).with_access(&access);
    Ok(RawJson(writer.event(&event, shown).into()))
}
