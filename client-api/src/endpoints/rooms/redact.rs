//! `PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}`:
//! <https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidredacteventidtxnid>

use parley_engine::limits::Action;
use ruma::api::client::redact::redact_event::v3::{Request, Response};

use crate::{ClientApi, Incoming, Result};

/// Suspended users may redact what they sent themselves.
pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let user_nid = incoming.session.user_nid;
    api.engine.limits().check(Action::Message, user_nid)?;
    let event_id = api
        .engine
        .rooms()
        .redact(
            &incoming.session,
            &incoming.room_id,
            &incoming.event_id,
            incoming.txn_id.as_str(),
            incoming.reason.clone(),
        )
        .await?;
    Ok(Response::new(event_id))
}
