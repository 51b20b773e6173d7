//! `PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey>

use parley_engine::{delayed_events::Wish, limits::Action, rooms::send::StateSetting};
use ruma::api::client::state::send_state_event::v3::Request;

use super::send::event_id_answer;
use crate::{
    ClientApi, Incoming, RawJson, Result,
    endpoints::{
        admit,
        delayed_events::{MaybeDelayed, schedule},
    },
};

pub(super) async fn handle(
    api: ClientApi,
    incoming: Incoming<MaybeDelayed<Request>>,
) -> Result<RawJson> {
    let MaybeDelayed { request, delay } = &incoming.request;
    if let Some(delay) = *delay {
        let wish = Wish {
            event_type: &request.event_type.to_string(),
            state_key: Some(&request.state_key),
            content: Some(request.body.json()),
            delay,
            transaction_id: None,
        };
        return schedule(&api, &incoming.session, &request.room_id, wish).await;
    }
    admit(&api, &incoming.session, Action::Message)?;
    let session = &incoming.session;
    let (event_type, state_key) = (&request.event_type, request.state_key.as_str());
    let mut setting = StateSetting::new(event_type, state_key, request.body.json());
    setting.at = request.timestamp.filter(|_| session.appservice.is_some());
    let event_id = api
        .engine
        .rooms()
        .set_state_place(session, &request.room_id, setting)
        .await?;
    Ok(event_id_answer(&event_id))
}
