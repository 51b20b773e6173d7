//! What a server publishes as its keys, checked.

use std::{collections::BTreeMap, time::Duration};

use parley_engine::remote::KnownKey;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedServerSigningKeyId,
    ServerName, UInt, api::federation::discovery::ServerSigningKeys, serde::Base64,
    signatures::PublicKeyMap,
};

/// Keys of one answer: more are nobody's.
const MAX_KEYS: usize = 200;
/// Bytes of one answer, which is stored. A key takes about 100.
const MAX_SIZE: usize = 32 * 1024;
/// Whatever a server says, its keys are asked for again after that time.
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server>
const MAX_VALIDITY: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The published keys of a server.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    /// Canonical JSON, with the signatures that it came with.
    pub(crate) json: String,
    /// Those in use and those that were.
    pub(crate) keys: BTreeMap<OwnedServerSigningKeyId, KnownKey>,
    /// Until when those in use hold.
    pub(crate) valid_until: MilliSecondsSinceUnixEpoch,
}

impl Published {
    /// Checks what `server` is said to have published: that it is of that server, and signed by one of the keys in it.
    ///
    /// # Errors
    /// In a few words, what is wrong with it.
    pub(crate) fn check(
        server: &ServerName,
        json: &str,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<Self, String> {
        let latest = now.get().saturating_add(millis(MAX_VALIDITY));
        Self::check_until(server, json, MilliSecondsSinceUnixEpoch(latest))
    }

    /// The same of keys that don't hold longer than until `latest`, whatever they say.
    pub(crate) fn check_until(
        server: &ServerName,
        json: &str,
        latest: MilliSecondsSinceUnixEpoch,
    ) -> Result<Self, String> {
        if json.len() > MAX_SIZE {
            return Err(format!("the keys take more than {MAX_SIZE} bytes"));
        }
        let object: CanonicalJsonObject =
            serde_json::from_str(json).map_err(|error| error.to_string())?;
        let parsed: ServerSigningKeys =
            serde_json::from_str(json).map_err(|error| error.to_string())?;
        if parsed.server_name != server {
            return Err(format!("the keys are those of {}", parsed.server_name));
        }
        if parsed.verify_keys.len() + parsed.old_verify_keys.len() > MAX_KEYS {
            return Err(format!("there are more than {MAX_KEYS} keys"));
        }
        let in_use = parsed.verify_keys.iter();
        let in_use: BTreeMap<String, Base64> = in_use
            .map(|(id, key)| (id.to_string(), key.key.clone()))
            .collect();
        if !is_signed_by(&object, server, &in_use) {
            return Err("the keys aren't signed by one of them".to_owned());
        }
        let valid_until = parsed.valid_until_ts.min(latest);
        let old = parsed.old_verify_keys.into_iter().map(|(id, key)| {
            let known = KnownKey {
                key: key.key,
                valid_until: key.expired_ts,
            };
            (id, known)
        });
        let mut keys: BTreeMap<_, _> = old.collect();
        keys.extend(parsed.verify_keys.into_iter().map(|(id, key)| {
            let known = KnownKey {
                key: key.key,
                valid_until,
            };
            (id, known)
        }));
        Ok(Self {
            json: CanonicalJsonValue::Object(object).to_string(),
            keys,
            valid_until,
        })
    }
}

/// Whether an object is signed by a server, with one of its keys.
pub(crate) fn is_signed_by(
    object: &CanonicalJsonObject,
    server: &ServerName,
    keys: &BTreeMap<String, Base64>,
) -> bool {
    let Some(CanonicalJsonValue::Object(all)) = object.get("signatures") else {
        return false;
    };
    let Some(CanonicalJsonValue::Object(own)) = all.get(server.as_str()) else {
        return false;
    };
    // One at a time: any that is right will do, and those of others aren't looked at.
    own.iter().any(|(id, signature)| {
        let Some(key) = keys.get(id) else {
            return false;
        };
        let signature = CanonicalJsonObject::from([(id.clone(), signature.clone())]);
        let signatures = CanonicalJsonObject::from([(
            server.to_string(),
            CanonicalJsonValue::Object(signature),
        )]);
        let mut object = object.clone();
        object.insert(
            "signatures".to_owned(),
            CanonicalJsonValue::Object(signatures),
        );
        let keys = BTreeMap::from([(id.clone(), key.clone())]);
        let keys = PublicKeyMap::from([(server.to_string(), keys)]);
        ruma::signatures::verify_json(&keys, &object).is_ok()
    })
}

fn millis(duration: Duration) -> UInt {
    UInt::try_from(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).unwrap_or(UInt::MAX)
}

#[cfg(test)]
mod tests {
    use ruma::{server_name, signatures::Ed25519KeyPair, signatures::sign_json};
    use serde_json::json;

    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1_000;
    const NOW: u64 = 1_800_000_000_000;

    fn pair(version: &str) -> Ed25519KeyPair {
        let der = Ed25519KeyPair::generate();
        Ed25519KeyPair::from_der(&der, version.to_owned()).unwrap()
    }

    fn publish(name: &str, pair: &Ed25519KeyPair, signed_by: &Ed25519KeyPair) -> String {
        let object = json!({
            "server_name": name,
            "valid_until_ts": NOW + 30 * DAY,
            "verify_keys": { "ed25519:a": { "key": Base64::<ruma::serde::base64::Standard>::new(pair.public_key().to_vec()).encode() } },
            "old_verify_keys": { "ed25519:old": { "key": "Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw", "expired_ts": 5 } },
        });
        let mut object: CanonicalJsonObject = serde_json::from_value(object).unwrap();
        sign_json("a.example", signed_by, &mut object).unwrap();
        CanonicalJsonValue::Object(object).to_string()
    }

    fn check(json: &str) -> Result<Published, String> {
        let now = MilliSecondsSinceUnixEpoch(UInt::try_from(NOW).unwrap());
        Published::check(server_name!("a.example"), json, now)
    }

    #[test]
    fn keys_signed_by_themselves_hold_for_a_week_at_most() {
        let pair = pair("a");
        let published = check(&publish("a.example", &pair, &pair)).unwrap();
        assert_eq!(u64::from(published.valid_until.get()), NOW + 7 * DAY);
        let validity = |id: &str| {
            u64::from(
                published.keys[<&ruma::ServerSigningKeyId>::try_from(id).unwrap()]
                    .valid_until
                    .get(),
            )
        };
        assert_eq!(validity("ed25519:a"), NOW + 7 * DAY);
        assert_eq!(validity("ed25519:old"), 5);
    }

    #[test]
    fn keys_of_others_forged_ones_and_nonsense_are_refused() {
        let (own, other) = (pair("a"), pair("a"));
        let of_other = check(&publish("b.example", &own, &own)).unwrap_err();
        assert!(of_other.contains("b.example"), "{of_other}");
        let forged = check(&publish("a.example", &own, &other)).unwrap_err();
        assert!(forged.contains("signed"), "{forged}");
        let unsigned = publish("a.example", &own, &own).replace("signatures", "notes");
        assert!(check(&unsigned).is_err());
        let long = format!("{{ {} }}", " ".repeat(MAX_SIZE));
        assert!(check(&long).unwrap_err().contains("bytes"));
        assert!(check("{}").is_err());
        assert!(check("[").is_err());
    }
}
