//! `GET /_matrix/federation/v1/make_join/{roomId}/{userId}`: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_joinroomiduserid>

use ruma::{
    api::federation::membership::prepare_join_event::v1::{Request, Response},
    events::room::member::MembershipState,
};

use super::Signed;
use crate::{Federation, error::Result};

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let rooms = federation.engine().rooms();
    let (origin, room_id, user_id) = (&signed.origin, &signed.room_id, &signed.user_id);
    let versions = Some(signed.ver.as_slice());
    let template = rooms
        .make_membership(origin, room_id, user_id, MembershipState::Join, versions)
        .await?;
    let mut response = Response::new(template.event);
    response.room_version = Some(template.version);
    Ok(response)
}
