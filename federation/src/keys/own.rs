//! The keys of this server, as it publishes them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parley_engine::{
    clock::{Clock, timestamp},
    remote::KnownKey,
};
use parley_protocol::ServerKey;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedServerSigningKeyId,
    UInt, serde::Base64, signatures::sign_json,
};
use serde_json::json;

/// How long others may rely on what is published now.
const VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);

/// A key that this server no longer signs with.
#[derive(Clone, Debug)]
pub(crate) struct OldKey {
    pub(crate) id: OwnedServerSigningKeyId,
    pub(crate) key: Base64,
    /// When it was given up.
    pub(crate) expired_at: MilliSecondsSinceUnixEpoch,
}

/// The keys.
#[derive(Clone, Debug)]
pub(crate) struct OwnKeys {
    current: Arc<ServerKey>,
    old: Vec<OldKey>,
    clock: Arc<dyn Clock>,
}

impl OwnKeys {
    pub(crate) fn new(current: Arc<ServerKey>, old: Vec<OldKey>, clock: Arc<dyn Clock>) -> Self {
        Self {
            current,
            old,
            clock,
        }
    }

    /// The keys as others know them.
    pub(crate) fn known(
        &self,
        now: MilliSecondsSinceUnixEpoch,
    ) -> BTreeMap<OwnedServerSigningKeyId, KnownKey> {
        let mut known = BTreeMap::new();
        for old in &self.old {
            let key = KnownKey {
                key: old.key.clone(),
                valid_until: old.expired_at,
            };
            known.insert(old.id.clone(), key);
        }
        let id = format!("ed25519:{}", self.current.version());
        if let Ok(id) = OwnedServerSigningKeyId::try_from(id) {
            let key = KnownKey {
                key: Base64::new(self.current.public_key().to_vec()),
                valid_until: valid_until(now),
            };
            known.insert(id, key);
        }
        known
    }

    /// What is published, signed.
    pub(crate) fn publish(&self) -> CanonicalJsonObject {
        let current =
            Base64::<ruma::serde::base64::Standard>::new(self.current.public_key().to_vec());
        let old = self.old.iter().map(|old| {
            let value = json!({ "key": old.key.encode(), "expired_ts": old.expired_at });
            (old.id.to_string(), value)
        });
        let old: serde_json::Map<_, _> = old.collect();
        let object = json!({
            "server_name": self.current.server_name(),
            "valid_until_ts": valid_until(self.clock.now()),
            "verify_keys": { format!("ed25519:{}", self.current.version()): { "key": current.encode() } },
            "old_verify_keys": old,
        });
        let mut object = match CanonicalJsonValue::try_from(object) {
            Ok(CanonicalJsonValue::Object(object)) => object,
            // Numbers are times; texts are always fine.
            _ => CanonicalJsonObject::new(),
        };
        self.sign(&mut object);
        object
    }

    /// Adds this server's signature to an object.
    pub(crate) fn sign(&self, object: &mut CanonicalJsonObject) {
        let name = self.current.server_name().as_str();
        if let Err(error) = sign_json(name, self.current.pair(), object) {
            tracing::error!(%error, "an object can't be signed");
        }
    }
}

fn valid_until(now: MilliSecondsSinceUnixEpoch) -> MilliSecondsSinceUnixEpoch {
    let validity = UInt::try_from(u64::try_from(VALIDITY.as_millis()).unwrap_or_default());
    MilliSecondsSinceUnixEpoch(now.get().saturating_add(validity.unwrap_or_default()))
}

/// An expired key as it is stored.
pub(crate) fn old_key(server_key: &ServerKey, expired_at: i64) -> Option<OldKey> {
    Some(OldKey {
        id: format!("ed25519:{}", server_key.version())
            .try_into()
            .ok()?,
        key: Base64::new(server_key.public_key().to_vec()),
        expired_at: timestamp(expired_at),
    })
}
