//! `GET /_matrix/client/v3/sync`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use std::sync::{Arc, LazyLock};

use parley_engine::{limits::Action, sessions::Session, sync::SyncRequest};
use ruma::{
    api::{
        client::{
            filter::FilterDefinition,
            sync::sync_events::v3::{Filter, Request},
        },
        error::ErrorKind,
    },
    presence::PresenceState,
};

use super::stream::answer;
use crate::{ApiError, ClientApi, Incoming, RawResponse, Result};

/// What is asked for without a filter: everything. One for all, as there is one in the hands of each waiting client.
static EVERYTHING: LazyLock<Arc<FilterDefinition>> = LazyLock::new(Arc::default);

/// How many pages of history one /sync counts as that tells of everything.
const PAGES: usize = 10;

/// Thousands of clients wait here, so what isn't needed meanwhile is in boxes: they're gone when the waiting begins.
pub(super) fn handle(
    api: ClientApi,
    incoming: Incoming<Request>,
) -> impl Future<Output = Result<RawResponse>> {
    // An async function would keep room for the whole request.
    let understood = Box::pin(understood(api.clone(), incoming));
    async move {
        let (session, presence, request) = understood.await?;
        // Kept until the answer is there: as long as it is, the user counts as connected.
        let seen = Box::pin(api.engine.presence().seen(&session, &presence));
        let _connected = seen.await?;
        let sync = api.engine.sync();
        let told = sync.wait(&session, &request, &api.stopping).await?;
        Box::pin(answer(api.clone(), session, request, told)).await
    }
}

/// What is needed of a request while it waits.
async fn understood(
    api: ClientApi,
    incoming: Incoming<Request>,
) -> Result<(Arc<Session>, PresenceState, SyncRequest)> {
    let api = &api;
    let Incoming {
        session, request, ..
    } = incoming;
    if !matches!(
        request.set_presence,
        PresenceState::Online | PresenceState::Unavailable | PresenceState::Offline
    ) {
        return Err(ApiError::new(
            ErrorKind::InvalidParam,
            "`set_presence` is online, unavailable or offline",
        ));
    }
    let limits = api.engine.limits();
    if request.since.is_none() || request.full_state {
        limits.check_many(Action::History, session.user_nid, PAGES)?;
    }
    let since = api.engine.sync().token(request.since.as_deref()).await?;
    if since.is_some_and(|since| since.position < 0) {
        return Err(ApiError::new(
            ErrorKind::InvalidParam,
            "this token is of a room's past, where nothing new comes",
        ));
    }
    let sync_request = SyncRequest {
        since,
        filter: filter(api, &session, request.filter).await?,
        full_state: request.full_state,
        use_state_after: request.use_state_after,
        timeout: request.timeout.unwrap_or_default(),
    };
    let presence = presence(api, &session, request.set_presence);
    Ok((session, presence, sync_request))
}

/// The presence that is asked for. One that changes too often, which many may be told of, is passed over: the client still
/// wants its answer.
fn presence(api: &ClientApi, session: &Session, asked: PresenceState) -> PresenceState {
    if asked == PresenceState::Online {
        // What a client means that says nothing. Without another between, nothing changes.
        return asked;
    }
    let limits = api.engine.limits();
    match limits.check(Action::Ephemeral, session.user_nid) {
        Ok(()) => asked,
        Err(_) => PresenceState::Offline,
    }
}

/// The filter that is meant: none, one in the request, or a stored one.
async fn filter(
    api: &ClientApi,
    session: &Session,
    filter: Option<Filter>,
) -> Result<Arc<FilterDefinition>> {
    match filter {
        Some(Filter::FilterDefinition(filter)) => Ok(api.engine.filters().share(filter)),
        // The first character tells one from the other; ruma takes what isn't a filter for a number.
        Some(Filter::FilterId(text)) if text.starts_with('{') => Err(ApiError::new(
            ErrorKind::InvalidParam,
            "`filter` is neither a filter nor the number of one",
        )),
        Some(Filter::FilterId(id)) => Ok(api.engine.filters().get(session.user_nid, &id).await?),
        None | Some(_) => Ok(EVERYTHING.clone()),
    }
}
