//! `POST /_matrix/client/v3/rooms/{roomId}/invite`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidinvite>

use parley_engine::{limits::Action, rooms::membership::MembershipDetails};
use ruma::api::client::membership::invite_user::v3::{InvitationRecipient, Request, Response};

use super::create_room::no_third_parties;
use crate::{ClientApi, Incoming, Result, endpoints::admit};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    admit(&api, &incoming.session, Action::Invite)?;
    let InvitationRecipient::UserId(invited) = &incoming.recipient else {
        return Err(no_third_parties());
    };
    let details = MembershipDetails {
        reason: invited.reason.clone(),
        ..MembershipDetails::default()
    };
    api.engine
        .rooms()
        .invite(
            &incoming.session,
            &incoming.room_id,
            &invited.user_id,
            &details,
        )
        .await?;
    Ok(Response::new())
}
