//! Whether events are signed by those who have to sign them.

use std::collections::HashSet;

use parley_protocol::{Incoming, IncomingError, RoomVersion, Unverified};
use ruma::{OwnedServerName, serde::Base64, signatures::PublicKeyMap};

use crate::{
    Result,
    compute::compute,
    remote::{KnownKeys, WantedKey},
    rooms::Rooms,
};

/// Events from which on they are checked on a thread of their own: about 60 us each.
const MANY: usize = 20;

impl Rooms {
    /// Checks signatures and hashes of events; gives for each what it is or why it is dropped.
    pub(super) async fn verify(
        &self,
        events: Vec<Unverified>,
        version: &RoomVersion,
    ) -> Result<Vec<Result<Incoming, IncomingError>>> {
        let keys = self.keys_for(&events, version).await;
        let version = version.clone();
        let are_few = events.len() < MANY;
        let check = move || -> Vec<Result<Incoming, IncomingError>> {
            events
                .into_iter()
                .map(|event| {
                    let keys = usable(&keys, &event, &version);
                    event.verify(&keys, &version)
                })
                .collect()
        };
        if are_few {
            return Ok(check());
        }
        compute(check).await
    }

    /// Checks one event.
    pub(super) async fn verify_one(
        &self,
        event: Unverified,
        version: &RoomVersion,
    ) -> Result<Incoming, IncomingError> {
        let keys = self.keys_for(std::slice::from_ref(&event), version).await;
        let keys = usable(&keys, &event, version);
        event.verify(&keys, version)
    }

    /// The same; `None` if the keys for that can't be had now.
    pub(super) async fn verify_if_possible(
        &self,
        event: Unverified,
        version: &RoomVersion,
    ) -> Result<Option<Incoming>, IncomingError> {
        let keys = self.keys_for(std::slice::from_ref(&event), version).await;
        let signers = event.signers(version)?;
        // What is known of a key may be old: the server, once it is reached, may say that it still holds.
        let keys = usable(&keys, &event, version);
        let has_key = |(server, _): &(OwnedServerName, _)| keys.contains_key(server.as_str());
        if !signers.iter().all(has_key) {
            return Ok(None);
        }
        event.verify(&keys, version).map(Some)
    }

    /// The keys that these events claim to be signed with, as far as they are found.
    async fn keys_for(&self, events: &[Unverified], version: &RoomVersion) -> KnownKeys {
        let mut wanted = HashSet::new();
        for event in events {
            for (server, key_ids) in event.signers(version).unwrap_or_default() {
                let valid_at = event.pdu.fields.origin_server_ts;
                wanted.extend(key_ids.into_iter().map(|key_id| WantedKey {
                    server: server.clone(),
                    key_id,
                    valid_at,
                }));
            }
        }
        // Those that this server signed with before are known where the keys of others are.
        let own_id = format!("ed25519:{}", self.key.version());
        let (own, others): (Vec<WantedKey>, Vec<WantedKey>) = wanted
            .into_iter()
            .partition(|wanted| wanted.server == self.server_name() && wanted.key_id == own_id);
        let mut keys = match self.outside.get() {
            Some(remote) if !others.is_empty() => remote.keys(others).await,
            _ => KnownKeys::new(),
        };
        for wanted in own {
            let known = crate::remote::KnownKey {
                key: Base64::new(self.key.public_key().to_vec()),
                valid_until: ruma::MilliSecondsSinceUnixEpoch(ruma::UInt::MAX),
            };
            keys.insert((wanted.server, wanted.key_id), known);
        }
        keys
    }
}

/// The keys that count for an event, in the form in which signatures are checked.
fn usable(keys: &KnownKeys, event: &Unverified, version: &RoomVersion) -> PublicKeyMap {
    let mut usable = PublicKeyMap::new();
    let signers: Vec<(OwnedServerName, _)> = event.signers(version).unwrap_or_default();
    for (server, key_ids) in signers {
        for key_id in key_ids {
            let Some(known) = keys.get(&(server.clone(), key_id.clone())) else {
                continue;
            };
            let is_valid = !version.rules().enforce_key_validity
                || known.valid_until >= event.pdu.fields.origin_server_ts;
            if is_valid {
                usable
                    .entry(server.to_string())
                    .or_default()
                    .insert(key_id.to_string(), known.key.clone());
            }
        }
    }
    usable
}
