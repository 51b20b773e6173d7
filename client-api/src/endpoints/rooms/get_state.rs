//! `GET /_matrix/client/v3/rooms/{roomId}/state`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstate>

use ruma::api::client::state::get_state_events::v3::Request;

use super::limit_history;
use crate::{
    ClientApi, Incoming, RawJson, Result,
    events::{EventWriter, Shown},
};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    limit_history(&api, &incoming.session)?;
    let rooms = api.engine.rooms();
    let (room, state) = rooms
        .whole_state_for(&incoming.session, &incoming.room_id)
        .await?;
    let entries: Vec<_> = state.all().cloned().collect();
    let events = rooms.timeline_events(&entries).await?;
    let writer = EventWriter::new(&api, &incoming.session, &events).await?;
    let mut out = String::new();
    writer.write_list(&mut out, &events, Shown::in_room(room.id()));
    Ok(RawJson(out.into()))
}
