//! What a client may add to its own member event.

use bytes::Bytes;
use parley_engine::rooms::{membership::MembershipDetails, third_party::BoundInvite};
use ruma::{CanonicalJsonObject, OwnedUserId, RoomId, api::error::ErrorKind};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{ApiError, Result};

/// What the server puts into a member event itself, or reads from the request.
const RESERVED: [&str; 8] = [
    "avatar_url",
    "displayname",
    "is_direct",
    "join_authorised_via_users_server",
    "membership",
    "reason",
    "third_party_invite",
    "third_party_signed",
];

/// The reason of a join and whatever else the client wants to say with it: keys of the body that the server doesn't know
/// go into the event's content.
///
/// # Errors
/// `M_BAD_JSON` for what can't be in an event.
pub(super) fn of_join(body: &Bytes, reason: Option<String>) -> Result<MembershipDetails> {
    let mut extra: CanonicalJsonObject = match body.is_empty() {
        true => CanonicalJsonObject::new(),
        false => serde_json::from_slice(body)
            .map_err(|error| ApiError::new(ErrorKind::BadJson, error.to_string()))?,
    };
    for key in RESERVED {
        extra.remove(key);
    }
    Ok(MembershipDetails {
        reason,
        extra,
        ..MembershipDetails::default()
    })
}

/// The invitation that an identity server has signed for the user's address, if the client has one: not by ruma's type, as
/// what was signed is the whole of it.
///
/// # Errors
/// `M_BAD_JSON` if it names no user.
pub(super) fn invite_by_address(body: &Bytes, room_id: &RoomId) -> Result<Option<BoundInvite>> {
    #[derive(Deserialize)]
    struct Join {
        third_party_signed: Option<Box<RawValue>>,
    }
    #[derive(Deserialize)]
    struct Signed {
        mxid: OwnedUserId,
        sender: OwnedUserId,
    }
    let bad = |error: serde_json::Error| ApiError::new(ErrorKind::BadJson, error.to_string());
    if body.is_empty() {
        return Ok(None);
    }
    let join: Join = serde_json::from_slice(body).map_err(bad)?;
    let Some(raw) = join.third_party_signed else {
        return Ok(None);
    };
    let signed: Signed = serde_json::from_str(raw.get()).map_err(bad)?;
    Ok(Some(BoundInvite {
        user_id: signed.mxid,
        room_id: room_id.to_owned(),
        sender: signed.sender,
        signed: raw,
    }))
}
