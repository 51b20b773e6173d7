//! What is left of an event when it is redacted.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#redactions>

use ruma::{
    CanonicalJsonObject,
    canonical_json::{redact, redact_content_in_place},
};

use crate::{RoomVersion, lenient};

/// The redacted form of a PDU's canonical JSON, itself canonical JSON; `None` if the JSON is no event.
pub fn redacted_json(json: &str, version: &RoomVersion) -> Option<String> {
    let object = lenient::read(json, version).ok()?;
    let redacted = redact(object, &version.rules().redaction, None).ok()?;
    lenient::write(&redacted, version).ok()
}

/// What is left of an event's content, JSON; nothing of what is no content.
pub fn redacted_content(event_type: &str, content: &str, version: &RoomVersion) -> String {
    let mut content: CanonicalJsonObject = serde_json::from_str(content).unwrap_or_default();
    redact_content_in_place(&mut content, &version.rules().redaction, event_type);
    serde_json::to_string(&content).unwrap_or_else(|_| "{}".to_owned())
}
