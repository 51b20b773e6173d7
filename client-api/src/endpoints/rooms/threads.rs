//! `GET /_matrix/client/v1/rooms/{roomId}/threads`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidthreads>

use std::fmt::Write;

use parley_engine::{rooms::threads::ThreadsRequest, stream::token::Token};
use ruma::{
    UInt,
    api::{
        client::threads::get_threads::v1::{IncludeThreads, Request},
        error::ErrorKind,
    },
};

use super::limit_history;
use crate::{
    ApiError, ClientApi, Incoming, RawJson, Result,
    events::{EventWriter, Shown},
};

/// Threads of a page unless the client asks for another number.
const DEFAULT_THREADS: usize = 20;
/// The most threads of a page.
const MAX_THREADS: usize = 100;

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    limit_history(&api, &incoming.session)?;
    let participated = match incoming.include {
        IncludeThreads::All => false,
        IncludeThreads::Participated => true,
        _ => return Err(invalid("`include` is all or participated")),
    };
    if incoming.limit == Some(UInt::MIN) {
        return Err(invalid("`limit` is greater than zero"));
    }
    let from = incoming.from.as_deref();
    let from = api.engine.sync().token(from).await?;
    let request = ThreadsRequest {
        participated,
        from: from.map(|token| token.position),
        limit: incoming.limit.map_or(DEFAULT_THREADS, |limit| {
            usize::try_from(limit)
                .unwrap_or(MAX_THREADS)
                .min(MAX_THREADS)
        }),
    };
    let session = &incoming.session;
    let rooms = api.engine.rooms();
    let page = rooms
        .threads_of(session, &incoming.room_id, request)
        .await?;
    let writer = EventWriter::in_room(&api, session, &page.access, &page.roots).await?;
    let shown = Shown::in_room(page.room.id()).with_access(&page.access);
    let mut out = String::from("{\"chunk\":");
    writer.write_list(&mut out, &page.roots, shown);
    if let Some(end) = page.end {
        let _ = write!(out, ",\"next_batch\":\"{}\"", Token::at(end));
    }
    out.push('}');
    Ok(RawJson(out.into()))
}

fn invalid(message: &'static str) -> ApiError {
    ApiError::new(ErrorKind::InvalidParam, message)
}
