//! `PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidtypinguserid>

use parley_engine::limits::Action;
use ruma::api::client::typing::create_typing_event::v3::{Request, Response, Typing};

use crate::{ClientApi, Incoming, Result, endpoints::check_own};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let session = &incoming.session;
    check_own(session, &incoming.user_id)?;
    session.may_write()?;
    api.engine
        .limits()
        .check(Action::Ephemeral, session.user_nid)?;
    let (room, _) = api
        .engine
        .rooms()
        .joined_room(session, &incoming.room_id)
        .await?;
    let timeout = match incoming.state {
        Typing::No => None,
        Typing::Yes(info) => Some(info.timeout),
    };
    api.engine
        .typing()
        .set(room.nid(), &session.user_id, timeout);
    Ok(Response::new())
}
