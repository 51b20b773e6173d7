//! `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid>

use parley_engine::{clock::timestamp, rooms::history::Direction};
use ruma::api::{
    self,
    federation::event::get_event_by_timestamp::v1::{Request, Response},
};

use super::Signed;
use crate::{Federation, error::Result};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let direction = match signed.dir {
        api::Direction::Backward => Direction::Backward,
        api::Direction::Forward => Direction::Forward,
    };
    let time = i64::from(signed.ts.get());
    let rooms = federation.engine().rooms();
    let (event_id, at) = rooms
        .event_near_for_server(&signed.origin, &signed.room_id, time, direction)
        .await?;
    Ok(Response::new(event_id, timestamp(at)))
}
