//! `GET /_matrix/client/v3/rooms/{roomId}/initialSync`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidinitialsync>

use std::fmt::Write;

use parley_engine::stream::token::Token;
use ruma::{
    api::client::peeking::get_current_state::v3::Request, events::room::member::MembershipState,
};

use super::limit_history;
use crate::{
    ClientApi, Incoming, RawJson, Result,
    events::{EventWriter, Shown},
};

/// Events of the room that are told: as many as clients show at first.
const EVENTS: usize = 20;

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    limit_history(&api, &incoming.session)?;
    let (session, room_id) = (&incoming.session, &incoming.room_id);
    let rooms = api.engine.rooms();
    let page = rooms.newest_messages(session, room_id, EVENTS).await?;
    let (room, state) = rooms.whole_state_for(session, room_id).await?;
    let entries: Vec<_> = state.all().cloned().collect();
    let state = rooms.timeline_events(&entries).await?;
    let data = api.engine.account_data().of_room(session, &room).await?;
    let visibility = match rooms.is_published(room_id).await? {
        true => "public",
        false => "private",
    };
    let events = page.events.iter().chain(&state);
    let writer = EventWriter::in_room(&api, session, &page.access, events).await?;
    let shown = Shown::in_room(room.id()).with_access(&page.access);
    let mut out = format!(
        "{{\"room_id\":{},\"visibility\":\"{visibility}\"",
        serde_json::json!(room.id())
    );
    let membership = page.access.membership();
    if page.access.membership_since().is_some() && membership != MembershipState::Knock {
        let _ = write!(out, ",\"membership\":\"{membership}\"");
    }
    out.push_str(",\"messages\":{\"chunk\":");
    writer.write_list(&mut out, &page.events, shown);
    if let Some(start) = page.end {
        let _ = write!(out, ",\"start\":\"{}\"", Token::at(start));
    }
    let _ = write!(out, ",\"end\":\"{}\"}},\"state\":", Token::at(page.start));
    writer.write_list(&mut out, &state, shown);
    let _ = write!(out, ",\"account_data\":{}}}", serde_json::json!(data));
    Ok(RawJson(out.into()))
}
