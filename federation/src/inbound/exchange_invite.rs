//! `PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}`: <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1exchange_third_party_inviteroomid>

use parley_engine::rooms::third_party::BoundInvite;
use ruma::{
    api::{
        error::ErrorKind,
        federation::thirdparty::exchange_invite::v1::{Request, Response},
    },
    events::{StateEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Signed;
use crate::{
    Federation,
    error::{FederationError, Result},
};

#[derive(Deserialize)]
struct Content {
    membership: MembershipState,
    third_party_invite: ThirdPartyInvite,
}

#[derive(Deserialize)]
struct ThirdPartyInvite {
    signed: Box<RawValue>,
}

pub(super) async fn handle(federation: Federation, signed: Signed<Request>) -> Result<Response> {
    let wrong = |message: String| FederationError::new(ErrorKind::InvalidParam, message);
    let content: Content = serde_json::from_str(signed.content.json().get())
        .map_err(|error| wrong(error.to_string()))?;
    if signed.kind != StateEventType::RoomMember || content.membership != MembershipState::Invite {
        return Err(wrong("the event is no invitation".to_owned()));
    }
    let invite = BoundInvite {
        user_id: signed.state_key.clone(),
        room_id: signed.room_id.clone(),
        sender: signed.sender.clone(),
        signed: content.third_party_invite.signed,
    };
    let rooms = federation.engine().rooms();
    rooms.exchange_for(&signed.origin, &invite).await?;
    Ok(Response::new())
}
