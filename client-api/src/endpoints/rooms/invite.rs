//! `POST /_matrix/client/v3/rooms/{roomId}/invite`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidinvite>

use parley_engine::{
    limits::Action, remote::ThirdPartyAddress, rooms::membership::MembershipDetails,
};
use ruma::api::{
    client::membership::{
        Invite3pid,
        invite_user::v3::{InvitationRecipient, Request, Response},
    },
    error::ErrorKind,
};

use crate::{ApiError, ClientApi, Incoming, Result, endpoints::admit};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    admit(&api, &incoming.session, Action::Invite)?;
    let rooms = api.engine.rooms();
    let (session, room_id) = (&incoming.session, &incoming.room_id);
    match &incoming.recipient {
        InvitationRecipient::UserId(invited) => {
            let details = MembershipDetails {
                reason: invited.reason.clone(),
                ..MembershipDetails::default()
            };
            rooms
                .invite(session, room_id, &invited.user_id, &details)
                .await?;
        }
        InvitationRecipient::ThirdPartyId(invited) => {
            let details = MembershipDetails::default();
            rooms
                .invite_address(session, room_id, &address(invited), &details)
                .await?;
        }
        _ => {
            let message = "an invitation is for a user id or for an address";
            return Err(ApiError::new(ErrorKind::InvalidParam, message));
        }
    }
    Ok(Response::new())
}

/// An address in the engine's terms.
pub(super) fn address(invited: &Invite3pid) -> ThirdPartyAddress {
    ThirdPartyAddress {
        id_server: invited.id_server.clone(),
        access_token: invited.id_access_token.clone(),
        medium: invited.medium.to_string(),
        address: invited.address.clone(),
    }
}
