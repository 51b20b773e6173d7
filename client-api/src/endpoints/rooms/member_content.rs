//! What a client may add to its own member event.

use bytes::Bytes;
use parley_engine::rooms::membership::MembershipDetails;
use ruma::{CanonicalJsonObject, api::error::ErrorKind};

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
