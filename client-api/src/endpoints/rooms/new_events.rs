//! `GET /_matrix/client/v3/events` for one room:
//! <https://spec.matrix.org/v1.19/client-server-api/#peeking_get_matrixclientv3events>

use std::fmt::Write;

use parley_engine::{rooms::preview::NewEvents, stream::token::Token};
use ruma::api::client::peeking::listen_to_new_events::v3::Request;

use super::limit_history;
use crate::{
    ClientApi, Incoming, RawJson, Result,
    events::{EventWriter, Shown},
};

/// Events that are told at once.
const EVENTS: usize = 100;

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    limit_history(&api, &incoming.session)?;
    let request = &incoming.request;
    let from = api.engine.sync().token(request.from.as_deref()).await?;
    let longest = api.engine.settings().sync.max_timeout;
    let wanted = NewEvents {
        from: from.map(|token| token.position),
        limit: EVENTS,
        timeout: request.timeout.unwrap_or_default().min(longest),
    };
    let (session, rooms) = (&incoming.session, api.engine.rooms());
    let told = rooms.new_events(session, &request.room_id, wanted, &api.stopping);
    let told = told.await?;
    let page = &told.page;
    let writer = EventWriter::in_room(&api, session, &page.access, &page.events).await?;
    let shown = Shown::in_room(page.room.id()).with_access(&page.access);
    let mut out = String::from("{\"chunk\":");
    writer.write_list(&mut out, &page.events, shown);
    let (start, end) = (Token::at(page.start), Token::at(told.next));
    let _ = write!(out, ",\"start\":\"{start}\",\"end\":\"{end}\"}}");
    Ok(RawJson(out.into()))
}
