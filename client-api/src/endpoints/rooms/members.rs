//! `GET /_matrix/client/v3/rooms/{roomId}/members`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmembers>

use ruma::{
    api::client::membership::get_member_events::v3::Request, events::room::member::MembershipState,
};

use super::limit_history;
use crate::{
    ClientApi, Incoming, RawJson, Result,
    events::{EventWriter, Shown},
};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    limit_history(&api, &incoming.session)?;
    let at = api.engine.sync().token(incoming.at.as_deref()).await?;
    let at = at.map(|token| token.position);
    let rooms = api.engine.rooms();
    let (room, members) = rooms
        .members(&incoming.session, &incoming.room_id, at, |membership| {
            is_wanted(&incoming.request, membership)
        })
        .await?;
    let writer = EventWriter::new(&api, &incoming.session, &members).await?;
    let mut out = String::from("{\"chunk\":");
    writer.write_list(&mut out, &members, Shown::in_room(room.id()));
    out.push('}');
    Ok(RawJson(out.into()))
}

/// Given both, either may hold.
fn is_wanted(request: &Request, membership: &MembershipState) -> bool {
    match (&request.membership, &request.not_membership) {
        (None, None) => true,
        (Some(wanted), None) => membership == wanted,
        (None, Some(unwanted)) => membership != unwanted,
        (Some(wanted), Some(unwanted)) => membership == wanted || membership != unwanted,
    }
}
