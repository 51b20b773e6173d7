//! `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid>

use parley_engine::{limits::Action, rooms::send::Message};
use ruma::api::{client::message::send_message_event::v3::Request, error::ErrorKind};

use crate::{ApiError, ClientApi, Incoming, RawJson, Result, endpoints::admit};

/// The busiest endpoint of all: what it does per event is kept little.
pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let Incoming {
        request,
        session,
        body,
        ..
    } = incoming;
    admit(&api, &session, Action::Message)?;
    if body.is_empty() {
        return Err(ApiError::new(
            ErrorKind::NotJson,
            "the body is the content of the event, a JSON object",
        ));
    }
    let event_type = request.event_type.to_string();
    let message = Message {
        event_type: &event_type,
        content: request.body.json(),
        transaction_id: request.txn_id.as_str(),
    };
    let event_id = api
        .engine
        .rooms()
        .send(&session, &request.room_id, message)
        .await?;
    Ok(event_id_answer(&event_id))
}

/// The answer that names an event.
pub(super) fn event_id_answer(event_id: &ruma::EventId) -> RawJson {
    RawJson(format!("{{\"event_id\":\"{event_id}\"}}").into())
}
