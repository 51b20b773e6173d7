//! `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey>

use parley_engine::limits::Action;
use ruma::api::client::state::send_state_event::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result, endpoints::admit};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    admit(&api, &incoming.session, Action::Message)?;
    let request = &incoming.request;
    let event_id = api
        .engine
        .rooms()
        .set_state(
            &incoming.session,
            &request.room_id,
            &request.event_type,
            &request.state_key,
            request.body.json(),
        )
        .await?;
    Ok(Response::new(event_id))
}
