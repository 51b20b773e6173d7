//! `GET /_matrix/client/v3/rooms/{roomId}/context/{eventId}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidcontexteventid>

use std::fmt::Write;

use parley_engine::{
    rooms::context::{Context, ContextRequest},
    stream::token::Token,
};
use ruma::api::client::context::get_context::v3::Request;

use super::{limit_history, messages};
use crate::{
    ClientApi, Incoming, RawJson, Result,
    events::{EventWriter, Shown},
    filter,
};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    limit_history(&api, &incoming.session)?;
    let request = &incoming.request;
    let wanted = ContextRequest {
        limit: messages::limit(request.limit, &request.filter),
        lazy_members: filter::is_lazy(&request.filter),
    };
    let any = filter::wants_room(&request.filter, &request.room_id);
    let fits = |event: &_| any && filter::wants(&request.filter, event);
    let rooms = api.engine.rooms();
    let context = rooms
        .context(
            &incoming.session,
            &request.room_id,
            &request.event_id,
            wanted,
            fits,
        )
        .await?;
    let events = std::iter::once(&context.event)
        .chain(&context.before)
        .chain(&context.after)
        .chain(&context.state_at_end);
    let writer = EventWriter::in_room(&api, &incoming.session, &context.access, events).await?;
    Ok(answer(&writer, &context))
}

fn answer(writer: &EventWriter<'_>, context: &Context) -> RawJson {
    let shown = Shown::in_room(context.room.id()).with_access(&context.access);
    let mut out = String::new();
    let _ = write!(
        out,
        "{{\"start\":\"{}\",\"end\":\"{}\",\"event\":",
        Token::at(context.start),
        Token::at(context.end)
    );
    writer.write(&mut out, &context.event, shown);
    for (name, events) in [
        ("events_before", &context.before),
        ("events_after", &context.after),
        ("state", &context.state_at_end),
    ] {
        let _ = write!(out, ",\"{name}\":");
        writer.write_list(&mut out, events, shown);
    }
    out.push('}');
    RawJson(out.into())
}
