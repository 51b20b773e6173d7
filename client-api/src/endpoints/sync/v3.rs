//! `GET /_matrix/client/v3/sync`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>

use std::sync::Arc;

use parley_engine::{sessions::Session, sync::SyncRequest};
use ruma::api::client::{
    filter::FilterDefinition,
    sync::sync_events::v3::{Filter, Request},
};

use super::writer::write_answer;
use crate::{ClientApi, Incoming, RawJson, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let session = &incoming.session;
    let since = api.engine.sync().token(incoming.since.as_deref()).await?;
    let request = SyncRequest {
        since,
        filter: filter(&api, session, incoming.request.filter.clone()).await?,
        full_state: incoming.full_state,
        timeout: incoming.timeout.unwrap_or_default(),
    };
    // Kept until the answer is there: as long as it is, the user counts as connected.
    let _connected = api
        .engine
        .presence()
        .seen(session, &incoming.set_presence)
        .await?;
    let answer = api
        .engine
        .sync()
        .wait(session, &request, &api.stopping)
        .await?;
    write_answer(&api, session, &answer).await
}

/// The filter that is meant: none, one in the request, or a stored one.
async fn filter(
    api: &ClientApi,
    session: &Session,
    filter: Option<Filter>,
) -> Result<Arc<FilterDefinition>> {
    match filter {
        None => Ok(Arc::default()),
        Some(Filter::FilterDefinition(filter)) => Ok(Arc::new(filter)),
        Some(Filter::FilterId(id)) => Ok(api.engine.filters().get(session.user_nid, &id).await?),
        Some(_) => Ok(Arc::default()),
    }
}
