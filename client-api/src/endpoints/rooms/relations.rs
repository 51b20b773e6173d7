//! `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}`, also with `/{relType}` and `/{relType}/{eventType}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidrelationseventid>

use std::fmt::Write;

use parley_engine::{
    rooms::{
        history::{Direction, PageRequest},
        relations::{MAX_DEPTH, RelationsRequest},
    },
    sessions::Session,
    stream::token::Token,
};
use ruma::{
    EventId, RoomId, UInt, api,
    api::client::relations::{
        get_relating_events, get_relating_events_with_rel_type,
        get_relating_events_with_rel_type_and_event_type,
    },
};

use super::{limit_history, messages::MAX_EVENTS};
use crate::{
    ClientApi, Incoming, RawJson, Result,
    events::{EventWriter, Shown},
};

/// Events of a page unless the client asks for another number.
const DEFAULT_EVENTS: usize = 20;

/// What the three requests have in common.
struct Asked<'a> {
    room_id: &'a RoomId,
    event_id: &'a EventId,
    rel_type: Option<String>,
    event_type: Option<String>,
    from: Option<&'a str>,
    to: Option<&'a str>,
    direction: api::Direction,
    limit: Option<UInt>,
    recurse: bool,
}

macro_rules! handler {
    ($(#[$doc:meta])* $name:ident, $endpoint:ident, |$request:ident| $rel_type:expr, $event_type:expr) => {
        $(#[$doc])*
        pub(super) async fn $name(
            api: ClientApi,
            incoming: Incoming<$endpoint::v1::Request>,
        ) -> Result<RawJson> {
            let $request = &incoming.request;
            let asked = Asked {
                room_id: &$request.room_id,
                event_id: &$request.event_id,
                rel_type: $rel_type,
                event_type: $event_type,
                from: $request.from.as_deref(),
                to: $request.to.as_deref(),
                direction: $request.dir,
                limit: $request.limit,
                recurse: $request.recurse,
            };
            answer(&api, &incoming.session, &asked).await
        }
    };
}

handler!(
    /// All that relate to the event.
    all, get_relating_events, |request| None, None
);
handler!(
    /// Those that relate in one way.
    by_rel_type, get_relating_events_with_rel_type,
    |request| Some(request.rel_type.to_string()), None
);
handler!(
    /// Those of a type that relate in one way.
    by_event_type, get_relating_events_with_rel_type_and_event_type,
    |request| Some(request.rel_type.to_string()), Some(request.event_type.to_string())
);

async fn answer(api: &ClientApi, session: &Session, asked: &Asked<'_>) -> Result<RawJson> {
    limit_history(api, session)?;
    let newest = api.engine.stream().position();
    let position = |token: Option<&str>| {
        token
            .map(|text| Token::parse(text, newest).map(|token| token.position))
            .transpose()
    };
    let limit = asked.limit.map_or(DEFAULT_EVENTS, |limit| {
        usize::try_from(limit).unwrap_or(MAX_EVENTS).min(MAX_EVENTS)
    });
    let request = RelationsRequest {
        room_id: asked.room_id,
        target: asked.event_id,
        rel_type: asked.rel_type.as_deref(),
        event_type: asked.event_type.as_deref(),
        recurse: asked.recurse,
        page: PageRequest {
            from: position(asked.from)?,
            to: position(asked.to)?,
            direction: match asked.direction {
                api::Direction::Backward => Direction::Backward,
                api::Direction::Forward => Direction::Forward,
            },
            limit,
        },
    };
    let page = api.engine.rooms().relations(session, request).await?;
    let writer = EventWriter::in_room(api, session, &page.access, &page.events).await?;
    let shown = Shown::in_room(page.room.id()).with_access(&page.access);
    let mut out = String::from("{\"chunk\":");
    writer.write_list(&mut out, &page.events, shown);
    if let Some(end) = page.end {
        let _ = write!(out, ",\"next_batch\":\"{}\"", Token::at(end));
    }
    if let Some(from) = request.page.from {
        let _ = write!(out, ",\"prev_batch\":\"{}\"", Token::at(from));
    }
    if asked.recurse {
        let _ = write!(out, ",\"recursion_depth\":{MAX_DEPTH}");
    }
    out.push('}');
    Ok(RawJson(out.into()))
}
