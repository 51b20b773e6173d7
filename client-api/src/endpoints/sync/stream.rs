//! Sending the answer of /sync: at once, or a few rooms at a time where there are many.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::{FutureExt, stream};
use http::{HeaderValue, header};
use parley_engine::{
    rooms::timeline::TimelineEvent,
    sessions::Session,
    sync::{Rest, SyncAnswer, SyncRequest, ToldRooms},
};

use super::writer::Writer;
use crate::{ClientApi, RawResponse, Result, events::EventWriter, filter::EventFields};

/// An answer that is being sent.
struct Sending {
    api: ClientApi,
    session: Arc<Session>,
    request: SyncRequest,
    writer: Writer,
    rest: Rest,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Rooms,
    Ended,
}

/// The answer to a request.
///
/// # Errors
/// If the database fails before something was sent. Later it can only be broken off.
pub(super) async fn answer(
    api: ClientApi,
    session: Arc<Session>,
    request: SyncRequest,
    told: SyncAnswer,
) -> Result<RawResponse> {
    let mut writer = Writer::new(&told, request.use_state_after);
    write_rooms(&api, &session, &request, &mut writer, &told.rooms).await?;
    let body = match told.rest {
        None => {
            writer.end();
            Body::from(writer.take())
        }
        Some(rest) => {
            let sending = Sending {
                api,
                session,
                request,
                writer,
                rest,
                state: State::Rooms,
            };
            Body::from_stream(stream::try_unfold(sending, next))
        }
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(RawResponse(response))
}

/// What was written of an answer since the last piece of it. The next rooms are looked at when that is sent.
async fn next(mut sending: Sending) -> Result<Option<(Bytes, Sending)>, BrokenOff> {
    if sending.state == State::Ended {
        return Ok(None);
    }
    let piece = sending.writer.take();
    if !piece.is_empty() {
        return Ok(Some((piece.into(), sending)));
    }
    if let Err(error) = sending.write_more().await {
        tracing::error!(?error, "an answer of /sync was broken off");
        return Err(BrokenOff);
    }
    let piece = sending.writer.take();
    Ok(Some((piece.into(), sending)))
}

impl Sending {
    async fn write_more(&mut self) -> Result<()> {
        let sync = self.api.engine.sync();
        let rooms = sync
            .more(&self.session, &self.request, &mut self.rest)
            .boxed()
            .await?;
        let Some(rooms) = rooms else {
            self.writer.end();
            self.state = State::Ended;
            return Ok(());
        };
        let (api, session, request) = (&self.api, &self.session, &self.request);
        write_rooms(api, session, request, &mut self.writer, &rooms)
            .boxed()
            .await
    }
}

async fn write_rooms(
    api: &ClientApi,
    session: &Session,
    request: &SyncRequest,
    writer: &mut Writer,
    rooms: &ToldRooms,
) -> Result<()> {
    let shown = shown_events(rooms);
    let format = request.filter.event_format.clone();
    let left = rooms.left.iter().map(|room| &room.access);
    let events = EventWriter::in_rooms(api, session, left, shown.iter().copied())
        .await?
        .with_format(api, format, shown)
        .await?;
    let fields = EventFields::of(request.filter.event_fields.as_deref());
    writer.rooms(&events.with_fields(fields), rooms);
    Ok(())
}

/// All events that are shown of rooms.
fn shown_events(rooms: &ToldRooms) -> Vec<&Arc<TimelineEvent>> {
    let mut events = Vec::new();
    for room in &rooms.joined {
        events.extend(room.timeline.events.iter().chain(&room.state));
    }
    for room in &rooms.left {
        events.extend(room.timeline.events.iter().chain(&room.state));
    }
    events
}

/// Something failed after a part of an answer was sent; the log says what.
#[derive(Clone, Copy, Debug)]
struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the answer was broken off")
    }
}

impl std::error::Error for BrokenOff {}
