//! `POST /_matrix/client/v3/rooms/{roomId}/report/{eventId}`, `POST /_matrix/client/v3/rooms/{roomId}/report` and
//! `POST /_matrix/client/v3/users/{userId}/report`:
//! <https://spec.matrix.org/v1.19/client-server-api/#reporting-content>

use parley_engine::limits::Action;
use ruma::api::client::{
    reporting::report_user,
    room::{report_content, report_room},
};

use crate::{ClientApi, Incoming, Result};

/// Reports an event.
pub(super) async fn event(
    api: ClientApi,
    incoming: Incoming<report_content::v3::Request>,
) -> Result<report_content::v3::Response> {
    let session = &incoming.session;
    api.engine
        .limits()
        .check(Action::Report, session.user_nid)?;
    let (room_id, event_id) = (&incoming.room_id, &incoming.event_id);
    let reason = incoming.reason.as_deref();
    let rooms = api.engine.rooms();
    rooms
        .report_event(session, room_id, event_id, reason)
        .await?;
    Ok(report_content::v3::Response::new())
}

/// Reports a room.
pub(super) async fn room(
    api: ClientApi,
    incoming: Incoming<report_room::v3::Request>,
) -> Result<report_room::v3::Response> {
    let session = &incoming.session;
    api.engine
        .limits()
        .check(Action::Report, session.user_nid)?;
    let rooms = api.engine.rooms();
    rooms
        .report_room(session, &incoming.room_id, &incoming.reason)
        .await?;
    Ok(report_room::v3::Response::new())
}

/// Reports a user.
pub(super) async fn user(
    api: ClientApi,
    incoming: Incoming<report_user::v3::Request>,
) -> Result<report_user::v3::Response> {
    let session = &incoming.session;
    api.engine
        .limits()
        .check(Action::Report, session.user_nid)?;
    let rooms = api.engine.rooms();
    rooms
        .report_user(session, &incoming.user_id, &incoming.reason)
        .await?;
    Ok(report_user::v3::Response::new())
}
