//! `GET /_matrix/client/v3/rooms/{roomId}/messages`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmessages>

use std::{fmt::Write, sync::Arc};

use parley_engine::{
    rooms::{
        history::{Direction, Page, PageRequest},
        timeline::TimelineEvent,
    },
    stream::token::Token,
};
use ruma::api::{
    self,
    auth_scheme::AccessToken,
    client::{filter::RoomEventFilter, message::get_message_events::v3},
    error::{DeserializationError, ErrorKind},
};

use super::limit_history;
use crate::{
    ApiError, ClientApi, Incoming, RawJson, Result,
    events::{EventWriter, Shown},
    filter::{self, RelationFilter},
};

/// The most events of a page.
pub(super) const MAX_EVENTS: usize = 1_000;

/// Ruma's request, except that a missing `dir` is found out later: who may not read the room is told that first.
#[derive(Debug)]
pub(super) struct Request {
    request: v3::Request,
    has_direction: bool,
    /// What ruma's filter doesn't have.
    relations: RelationFilter,
}

impl api::Metadata for Request {
    const METHOD: http::Method = v3::Request::METHOD;
    const RATE_LIMITED: bool = v3::Request::RATE_LIMITED;
    type Authentication = AccessToken;
    type PathBuilder = <v3::Request as api::Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = v3::Request::PATH_BUILDER;
}

impl api::IncomingRequest for Request {
    type EndpointError = <v3::Request as api::IncomingRequest>::EndpointError;
    type OutgoingResponse = v3::Response;

    fn try_from_http_request_inner(
        mut request: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let query = request.uri().query().unwrap_or_default();
        let relations = RelationFilter::of_query(query);
        let has_direction = query.split('&').any(|pair| pair.starts_with("dir="));
        if !has_direction {
            let uri = format!("{}?{query}&dir=b", request.uri().path());
            if let Ok(uri) = uri.parse() {
                *request.uri_mut() = uri;
            }
        }
        Ok(Self {
            relations,
            request: v3::Request::try_from_http_request_inner(request, path)?,
            has_direction,
        })
    }
}

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    limit_history(&api, &incoming.session)?;
    let request = &incoming.request.request;
    let relations = &incoming.request.relations;
    let wanted = PageRequest {
        from: position(&api, request.from.as_deref()).await?,
        to: position(&api, request.to.as_deref()).await?,
        direction: match request.dir {
            api::Direction::Backward => Direction::Backward,
            api::Direction::Forward => Direction::Forward,
        },
        limit: limit(request.limit, &request.filter),
    };
    let any = filter::wants_room(&request.filter, &request.room_id);
    let page = api
        .engine
        .rooms()
        .messages(&incoming.session, &request.room_id, wanted, |event| {
            any && filter::wants(&request.filter, event) && relations.wants(event)
        })
        .await?;
    if !incoming.request.has_direction {
        return Err(ApiError::new(
            ErrorKind::MissingParam,
            "`dir` is required: b or f",
        ));
    }
    let senders = match filter::is_lazy(&request.filter) {
        true => {
            let rooms = api.engine.rooms();
            Some(rooms.senders(&page.state, &page.events).await?)
        }
        false => None,
    };
    let shown_events = page.events.iter().chain(senders.iter().flatten());
    let writer = EventWriter::in_room(&api, &incoming.session, &page.access, shown_events).await?;
    Ok(answer(&writer, &page, senders.as_deref()))
}

/// How many events are wanted: the least of what the request and the filter say, and what is possible.
pub(super) fn limit(limit: ruma::UInt, filter: &RoomEventFilter) -> usize {
    let limit = filter.limit.map_or(limit, |least| least.min(limit));
    usize::try_from(limit).unwrap_or(MAX_EVENTS).min(MAX_EVENTS)
}

fn answer(
    writer: &EventWriter<'_>,
    page: &Page,
    senders: Option<&[Arc<TimelineEvent>]>,
) -> RawJson {
    let shown = Shown::in_room(page.room.id()).with_access(&page.access);
    let mut out = String::from("{\"chunk\":");
    writer.write_list(&mut out, &page.events, shown);
    let _ = write!(out, ",\"start\":\"{}\"", Token::at(page.start));
    if let Some(end) = page.end {
        let _ = write!(out, ",\"end\":\"{}\"", Token::at(end));
    }
    if let Some(senders) = senders {
        out.push_str(",\"state\":");
        writer.write_list(&mut out, senders, shown);
    }
    out.push('}');
    RawJson(out.into())
}

/// The position of a token, if there is one.
async fn position(api: &ClientApi, token: Option<&str>) -> Result<Option<i64>> {
    let token = api.engine.sync().token(token).await?;
    Ok(token.map(|token| token.position))
}
