//! `GET /_matrix/federation/v1/make_leave/{roomId}/{userId}`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_leaveroomiduserid>

use ruma::{
    api::federation::membership::prepare_leave_event::v1::{Request, Response},
    events::room::member::MembershipState,
};

use super::Signed;
use crate::{Federation, error::Result};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let rooms = federation.engine().rooms();
    let (origin, room_id, user_id) = (&signed.origin, &signed.room_id, &signed.user_id);
    let template = rooms
        .make_membership(origin, room_id, user_id, MembershipState::Leave, None)
        .await?;
    Ok(Response::new(Some(template.version), template.event))
}
