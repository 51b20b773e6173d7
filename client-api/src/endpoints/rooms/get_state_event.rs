//! `GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstateeventtypestatekey>

use ruma::{
    UserId,
    api::{
        client::state::get_state_event_for_key::v3::{Request, StateEventFormat},
        error::ErrorKind,
    },
    events::StateEventType,
};

use crate::{
    ApiError, ClientApi, Incoming, RawJson, Result,
    events::{EventWriter, Shown},
};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let rooms = api.engine.rooms();
    let (room, mut state) = rooms
        .state_for(&incoming.session, &incoming.room_id)
        .await?;
    if incoming.event_type == StateEventType::RoomMember
        && let Ok(user_id) = <&UserId>::try_from(incoming.state_key.as_str())
        && room.lacks_members()
    {
        rooms.need_member(&room, user_id).await?;
        (_, state) = rooms
            .state_for(&incoming.session, &incoming.room_id)
            .await?;
    }
    let entry = state
        .get(&incoming.event_type.to_string(), &incoming.state_key)
        .ok_or_else(unknown)?;
    match &incoming.format {
        StateEventFormat::Content => Ok(RawJson(entry.event.content.get().to_owned().into())),
        StateEventFormat::Event => {
            let events = rooms.timeline_events(std::slice::from_ref(entry)).await?;
            let event = events.first().ok_or_else(unknown)?;
            let writer = EventWriter::new(&api, &incoming.session, &events).await?;
            let shown = Shown::in_room(room.id());
            Ok(RawJson(writer.event(event, shown).into()))
        }
        other => Err(ApiError::new(
            ErrorKind::InvalidParam,
            format!("`format` is `content` or `event`, not {other:?}"),
        )),
    }
}

fn unknown() -> ApiError {
    ApiError::new(ErrorKind::NotFound, "the room's state has no such event")
}
