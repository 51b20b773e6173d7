//! Invitations of people of whom only an address is known.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#third-party-invites>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, SigningKeyAlgorithm,
    serde::{Base64, base64::Standard},
    signatures::{to_canonical_json_string_for_signing, verify_canonical_json_bytes},
    third_party_invite::IdentityServerBase64PublicKey,
};
use serde::{Deserialize, Serialize};

use crate::StateEvent;

/// Keys that one invitation may name.
const MAX_KEYS: usize = 10;
/// Bytes that what an identity server says to be shown may have.
const MAX_NAME_BYTES: usize = 255;

/// The content of `m.room.third_party_invite`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ThirdPartyInvite {
    /// What is shown instead of the address.
    #[serde(default)]
    pub display_name: String,
    /// Where to ask whether `public_key` is valid.
    pub key_validity_url: Option<String>,
    /// A key by which the token may be signed.
    pub public_key: Option<String>,
    /// All of them.
    #[serde(default)]
    pub public_keys: Vec<InviteKey>,
}

/// A key by which a token may be signed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct InviteKey {
    /// The key, unpadded base64 of either alphabet.
    pub public_key: String,
    /// Where to ask whether it is valid; always, if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_validity_url: Option<String>,
}

/// What an identity server has signed: that an address is a user's.
#[derive(Clone, Debug)]
pub struct SignedInvite {
    /// Whose.
    pub mxid: OwnedUserId,
    /// Which invitation.
    pub token: String,
    object: CanonicalJsonObject,
}

/// Why something is no invitation of this kind.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ThirdPartyError(String);

fn wrong(message: impl Into<String>) -> ThirdPartyError {
    ThirdPartyError(message.into())
}

impl ThirdPartyInvite {
    /// An invitation as an identity server has noted it.
    ///
    /// # Errors
    /// If it has no key, or more than is sensible; if what is to be shown is too long.
    pub fn new(display_name: String, keys: Vec<InviteKey>) -> Result<Self, ThirdPartyError> {
        let first = keys
            .first()
            .ok_or_else(|| wrong("there is no key"))?
            .clone();
        if keys.len() > MAX_KEYS || display_name.len() > MAX_NAME_BYTES {
            return Err(wrong("there is too much of it"));
        }
        if keys.iter().any(|key| decoded(&key.public_key).is_none()) {
            return Err(wrong("a key is none"));
        }
        Ok(Self {
            display_name,
            key_validity_url: first.key_validity_url,
            public_key: Some(first.public_key),
            public_keys: keys,
        })
    }

    /// Reads it from the state of a room.
    pub fn of_event(event: &StateEvent) -> Option<Self> {
        event.content_as()
    }

    /// The keys that have signed, each once.
    pub fn keys_of(&self, signed: &SignedInvite) -> Vec<InviteKey> {
        let own = self.public_key.iter().map(|key| InviteKey {
            public_key: key.clone(),
            key_validity_url: self.key_validity_url.clone(),
        });
        let mut keys: Vec<InviteKey> = Vec::new();
        for key in self.public_keys.iter().take(MAX_KEYS).cloned().chain(own) {
            let is_new = keys.iter().all(|known| known.public_key != key.public_key);
            if is_new && signed.is_by(&key.public_key) {
                keys.push(key);
            }
        }
        keys
    }
}

impl SignedInvite {
    /// Reads what an identity server has signed.
    ///
    /// # Errors
    /// If it names no user, or no token that could be one.
    pub fn read(json: &str) -> Result<Self, ThirdPartyError> {
        let object: CanonicalJsonObject =
            serde_json::from_str(json).map_err(|error| wrong(error.to_string()))?;
        let text = |field: &str| match object.get(field) {
            Some(CanonicalJsonValue::String(text)) => Ok(text.clone()),
            _ => Err(wrong(format!("`{field}` is missing"))),
        };
        let mxid =
            OwnedUserId::try_from(text("mxid")?).map_err(|error| wrong(error.to_string()))?;
        let token = text("token")?;
        check_token(&token)?;
        Ok(Self {
            mxid,
            token,
            object,
        })
    }

    /// The whole, for a member event.
    pub fn object(&self) -> &CanonicalJsonObject {
        &self.object
    }

    fn is_by(&self, public_key: &str) -> bool {
        let Some(key) = decoded(public_key) else {
            return false;
        };
        let Ok(bytes) = to_canonical_json_string_for_signing(&self.object) else {
            return false;
        };
        let Some(CanonicalJsonValue::Object(servers)) = self.object.get("signatures") else {
            return false;
        };
        let by_key = servers.values().filter_map(CanonicalJsonValue::as_object);
        let mut signatures = by_key
            .flatten()
            .filter(|(id, _)| id.starts_with("ed25519:"))
            .filter_map(|(_, signature)| Base64::<Standard>::parse(signature.as_str()?).ok());
        signatures.any(|signature| {
            let algorithm = SigningKeyAlgorithm::Ed25519;
            let signature = signature.as_bytes();
            verify_canonical_json_bytes(&algorithm, &key, signature, bytes.as_bytes()).is_ok()
        })
    }
}

fn decoded(public_key: &str) -> Option<Vec<u8>> {
    IdentityServerBase64PublicKey(public_key.to_owned())
        .decode()
        .ok()
}

/// Whether a text may be the token of an invitation, and so a state key.
///
/// # Errors
/// If it is empty, too long, or holds a character that it may not hold.
pub fn check_token(token: &str) -> Result<(), ThirdPartyError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".=_-".contains(&byte);
    match !token.is_empty() && token.len() <= MAX_NAME_BYTES && token.bytes().all(fits) {
        true => Ok(()),
        false => Err(wrong("the token is none")),
    }
}

#[cfg(test)]
mod tests {
    use ruma::signatures::{Ed25519KeyPair, sign_json};
    use serde_json::json;

    use super::*;

    fn pair() -> Ed25519KeyPair {
        Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "0".to_owned()).unwrap()
    }

    fn key(pair: &Ed25519KeyPair) -> InviteKey {
        InviteKey {
            public_key: Base64::<Standard>::new(pair.public_key().to_vec()).encode(),
            key_validity_url: Some("https://identity.test/valid".to_owned()),
        }
    }

    fn signed(pair: &Ed25519KeyPair) -> SignedInvite {
        let object = json!({ "mxid": "@bob:b", "token": "abc", "sender": "@alice:a" });
        let mut object = serde_json::from_value(object).unwrap();
        sign_json("identity.test", pair, &mut object).unwrap();
        SignedInvite::read(&serde_json::to_string(&object).unwrap()).unwrap()
    }

    #[test]
    fn an_invitation_is_signed_by_those_of_its_keys_that_signed_it() {
        let (one, other, foreign) = (pair(), pair(), pair());
        let invite = ThirdPartyInvite::new("b...".to_owned(), vec![key(&one), key(&other)]);
        let invite = invite.unwrap();
        assert_eq!(invite.keys_of(&signed(&other)), [key(&other)]);
        assert_eq!(invite.keys_of(&signed(&one)), [key(&one)]);
        assert!(invite.keys_of(&signed(&foreign)).is_empty());
    }

    #[test]
    fn what_an_identity_server_notes_has_keys_and_is_small() {
        let right = key(&pair());
        let name = || "b...".to_owned();
        assert!(ThirdPartyInvite::new(name(), vec![]).is_err());
        assert!(ThirdPartyInvite::new(name(), vec![right.clone(); MAX_KEYS + 1]).is_err());
        assert!(ThirdPartyInvite::new("b".repeat(256), vec![right.clone()]).is_err());
        let mut wrong = right;
        wrong.public_key = "***".to_owned();
        assert!(ThirdPartyInvite::new(name(), vec![wrong]).is_err());
    }

    #[test]
    fn a_token_is_of_few_characters() {
        for token in ["a", "A.=_-9", &"x".repeat(255)] {
            assert!(check_token(token).is_ok(), "{token}");
        }
        for token in ["", "a b", "ä", "a/b", &"x".repeat(256)] {
            assert!(check_token(token).is_err(), "{token}");
        }
    }

    #[test]
    fn what_names_no_user_or_no_token_is_nothing_signed() {
        for json in [
            json!({ "mxid": "@bob:b" }),
            json!({ "token": "abc" }),
            json!({ "mxid": "bob", "token": "abc" }),
            json!({ "mxid": "@bob:b", "token": "" }),
            json!([]),
        ] {
            assert!(SignedInvite::read(&json.to_string()).is_err(), "{json}");
        }
    }
}
