//! `PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidtypinguserid>

use parley_engine::limits::Action;
use ruma::api::client::typing::create_typing_event::v3::{self, Response, Typing};
use serde_json::{Map, Value};

use crate::{
    ClientApi, Incoming, Result,
    completed::{Completed, Completion},
    endpoints::check_own,
};

/// Milliseconds after which typing ends where the client doesn't say it.
const TIMEOUT: u32 = 30_000;

/// Who types may leave out for how long.
pub(super) struct WithTimeout;

impl Completion for WithTimeout {
    type Request = v3::Request;

    fn complete(body: &mut Map<String, Value>, _: &[&str]) {
        body.entry("timeout").or_insert_with(|| TIMEOUT.into());
    }
}

type Request = Completed<WithTimeout>;

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
    let timeout = match &incoming.state {
        Typing::No => None,
        Typing::Yes(info) => Some(info.timeout),
    };
    api.engine
        .typing()
        .set(room.nid(), &session.user_id, timeout);
    Ok(Response::new())
}
