//! `GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event>

use parley_engine::rooms::history::Direction;
use ruma::{
    MilliSecondsSinceUnixEpoch, UInt, api,
    api::client::room::get_event_by_timestamp::v1::{Request, Response},
};

use super::limit_history;
use crate::{ClientApi, Incoming, Result};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    limit_history(&api, &incoming.session)?;
    let direction = match incoming.dir {
        api::Direction::Backward => Direction::Backward,
        api::Direction::Forward => Direction::Forward,
    };
    let timestamp = i64::from(incoming.ts.get());
    let event = api
        .engine
        .rooms()
        .event_near(&incoming.session, &incoming.room_id, timestamp, direction)
        .await?;
    let time = UInt::try_from(event.origin_server_ts).unwrap_or_default();
    Ok(Response::new(
        event.event_id.clone(),
        MilliSecondsSinceUnixEpoch(time),
    ))
}
