//! `GET /_matrix/client/v1/room_summary/{roomIdOrAlias}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias>

use parley_engine::limits::Action;
use ruma::api::client::room::get_summary::v1::{Request, Response};

use super::named_room;
use crate::{ClientApi, Incoming, Result};

/// Also for who isn't logged in: what they are told of is open to anyone.
pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let limits = api.engine.limits();
    match (&incoming.session, incoming.address) {
        (Some(session), _) => limits.check(Action::Search, session.user_nid)?,
        (None, Some(address)) => limits.check(Action::Search, address)?,
        (None, None) => {}
    }
    let name = &incoming.room_id_or_alias;
    // Who isn't logged in doesn't make this server ask others.
    let asks_others = incoming.session.is_some();
    let (room_id, known) = named_room(&api, name, asks_others).await?;
    let via: Vec<_> = incoming.via.iter().cloned().chain(known).collect();
    let rooms = api.engine.rooms();
    let (summary, membership) = rooms
        .summary(incoming.session.as_deref(), &room_id, &via)
        .await?;
    let mut response = Response::new(summary);
    response.membership = membership.map(Into::into);
    Ok(response)
}
