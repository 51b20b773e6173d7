//! `PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid>

use parley_engine::{delayed_events::Wish, limits::Action, rooms::send::Message};
use ruma::api::{client::message::send_message_event::v3::Request, error::ErrorKind};

use crate::{
    ApiError, ClientApi, Incoming, RawJson, Result,
    endpoints::{
        admit,
        delayed_events::{MaybeDelayed, schedule},
    },
};

/// The busiest endpoint of all: what it does per event is kept little. What it rarely waits for has a box, here and in the
/// engine, so that a message doesn't carry the room for it around.
pub(super) async fn handle(
    api: ClientApi,
    incoming: Incoming<MaybeDelayed<Request>>,
) -> Result<RawJson> {
    let Incoming {
        request: MaybeDelayed { request, delay },
        session,
        body,
        ..
    } = incoming;
    let event_type = request.event_type.to_string();
    if let Some(delay) = delay {
        let wish = Wish {
            event_type: &event_type,
            state_key: None,
            content: (!body.is_empty()).then(|| request.body.json()),
            delay,
            transaction_id: Some(request.txn_id.as_str()),
        };
        return Box::pin(schedule(&api, &session, &request.room_id, wish)).await;
    }
    admit(&api, &session, Action::Message)?;
    if body.is_empty() {
        return Err(ApiError::new(
            ErrorKind::NotJson,
            "the body is the content of the event, a JSON object",
        ));
    }
    let mut message = Message::new(&event_type, request.body.json(), request.txn_id.as_str());
    message.at = request.timestamp.filter(|_| session.appservice.is_some());
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
