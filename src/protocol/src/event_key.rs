//! Event ids in few bytes.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{EventId, OwnedEventId};

/// The bytes of a SHA-256, which event ids of room versions 4 and later are.
const HASH_BYTES: usize = 32;

/// An event id as it is stored: the 32 bytes of the hash where the id is one (room versions 4 and later), else its text.
///
/// A text that happens to have 32 bytes is followed by a zero byte, which no event id holds, so that every key has one
/// meaning.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey(Vec<u8>);

impl EventKey {
    /// The key of an event id.
    pub fn new(event_id: &EventId) -> Self {
        let text = event_id.as_str();
        let hash = text
            .strip_prefix('$')
            .and_then(|hash| URL_SAFE_NO_PAD.decode(hash).ok());
        match hash {
            // The comparison keeps out texts that decode leniently but aren't the canonical form of the hash.
            Some(hash)
                if hash.len() == HASH_BYTES && URL_SAFE_NO_PAD.encode(&hash) == text[1..] =>
            {
                Self(hash)
            }
            _ => {
                let mut bytes = text.as_bytes().to_vec();
                if bytes.len() == HASH_BYTES {
                    bytes.push(0);
                }
                Self(bytes)
            }
        }
    }

    /// Reads what [`EventKey::into_bytes`] gave. `None` if no event id ever gave these bytes.
    pub fn event_id_from_bytes(bytes: &[u8]) -> Option<OwnedEventId> {
        if bytes.len() == HASH_BYTES {
            return OwnedEventId::try_from(format!("${}", URL_SAFE_NO_PAD.encode(bytes))).ok();
        }
        let text = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        OwnedEventId::try_from(std::str::from_utf8(text).ok()?).ok()
    }

    /// The bytes for the database.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(id: &str) -> usize {
        let id = OwnedEventId::try_from(id).unwrap();
        let bytes = EventKey::new(&id).into_bytes();
        assert_eq!(EventKey::event_id_from_bytes(&bytes).unwrap(), id);
        bytes.len()
    }

    #[test]
    fn a_url_safe_hash_is_stored_as_its_32_bytes() {
        assert_eq!(
            round_trip("$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg"),
            32
        );
    }

    #[test]
    fn every_other_form_of_id_comes_back_as_it_was() {
        assert_eq!(
            round_trip("$acR1l0raoZnm60CBwAVgqbZqoO/mYU81xysh1u7XcJk"),
            44
        );
        assert_eq!(round_trip("$143273582443PhrSn:example.org"), 30);
        assert_eq!(round_trip("$143273582443PhrSnaa:example.org"), 33);
    }
}
