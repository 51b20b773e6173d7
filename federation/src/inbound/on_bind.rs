//! `PUT /_matrix/federation/v1/3pid/onbind`: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv13pidonbind>

use parley_engine::rooms::third_party::BoundInvite;
use ruma::api::{
    error::{ErrorKind, LimitExceededErrorData},
    federation::thirdparty::bind_callback::v1::{Request, Response},
};

use crate::{
    Federation,
    error::{FederationError, Result},
};

/// Identity servers ask, without a signature that this server could check. What each invitation is worth, its own
/// signature says.
pub(super) async fn handle(federation: Federation, request: Request) -> Result<Response> {
    let Ok(_place) = federation.binding().try_acquire() else {
        let kind = ErrorKind::LimitExceeded(LimitExceededErrorData::new());
        return Err(FederationError::new(kind, "try again later"));
    };
    let invites = request.invites.into_iter().map(|invite| BoundInvite {
        user_id: invite.mxid,
        room_id: invite.room_id,
        sender: invite.sender,
        signed: invite.signed.into_json(),
    });
    let rooms = federation.engine().rooms();
    rooms
        .address_bound(&request.mxid, invites.collect())
        .await?;
    Ok(Response::new())
}
