//! The key that this server signs with.

use std::sync::Arc;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey};
use parley_protocol::ServerKey;
use parley_storage::{Database, StorageError, keys::SigningKeyRow};
use ruma::{ServerName, ServerSigningKeyId};

use crate::{EngineError, Result, clock::Clock, random::Random};

/// Base64, padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        // As the keys of the specification's test vectors are written.
        .with_decode_allow_trailing_bits(true),
);

/// Letters of a new key's version.
const VERSION_LENGTH: usize = 6;

/// The newest key of the database; at the first start, a new one.
pub(crate) async fn server_key(
    database: &Database,
    server_name: &ServerName,
    clock: &dyn Clock,
    random: &Arc<dyn Random>,
) -> Result<Arc<ServerKey>> {
    let version = format!("p_{}", random.lower_case(VERSION_LENGTH));
    let stored = database
        .signing_key_or(&version, &new_key(random)?, i64::from(clock.now().get()))
        .await?;
    let key = ServerKey::from_der(server_name.to_owned(), &stored.private_key, &stored.version);
    Ok(Arc::new(key.ok_or_else(|| {
        StorageError::Corrupt(format!("the signing key {} can't be read", stored.version))
    })?))
}

/// A new key, in PKCS#8.
fn new_key(random: &Arc<dyn Random>) -> Result<Vec<u8>> {
    let mut seed = [0; 32];
    random.fill(&mut seed);
    der(&seed)
}

/// A key in PKCS#8.
fn der(seed: &[u8; 32]) -> Result<Vec<u8>> {
    let der = SigningKey::from_bytes(seed).to_pkcs8_der();
    let der = der.map_err(|error| EngineError::Internal(error.to_string()))?;
    Ok(der.as_bytes().to_vec())
}

/// Makes keys of another homeserver this server's: the first one signs from the next start on, the others, and those that
/// this server has, are published as keys that signed until now. Gives the ids of the keys.
///
/// `text` is as Synapse writes it: on each line `ed25519`, a version, and the 32 bytes of the private key in base64.
///
/// # Errors
/// `M_INVALID_PARAM` if the text is something else, `M_UNKNOWN` if one of the versions is taken by another key.
pub async fn import(database: &Database, clock: &dyn Clock, text: &str) -> Result<Vec<String>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Vec<SigningKeyRow> = lines.map(read).collect::<Result<_>>()?;
    if keys.is_empty() {
        return Err(EngineError::invalid_param("there is no key"));
    }
    let ids = keys.iter().map(|key| format!("ed25519:{}", key.version));
    let ids = ids.collect();
    match database.import_signing_keys(keys, clock.now_ms()).await? {
        true => Ok(ids),
        false => Err(EngineError::unknown(
            "this server has another key of the same version",
        )),
    }
}

/// Reads a line of a file of keys.
fn read(line: &str) -> Result<SigningKeyRow> {
    let wrong = || {
        EngineError::invalid_param("expected lines of `ed25519`, a version, and a key in base64")
    };
    let mut words = line.split_whitespace();
    let (Some("ed25519"), Some(version), Some(key), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(wrong());
    };
    if <&ServerSigningKeyId>::try_from(format!("ed25519:{version}").as_str()).is_err() {
        return Err(wrong());
    }
    let seed: [u8; 32] = BASE64
        .decode(key)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(wrong)?;
    Ok(SigningKeyRow {
        version: version.to_owned(),
        private_key: der(&seed)?,
    })
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn a_key_of_synapse_is_read_as_the_pair_that_it_is() {
        // The seed and public key of the specification's test vectors,
        // <https://spec.matrix.org/v1.19/appendices/#cryptographic-test-vectors>.
        let row = read("ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").unwrap();
        let name = server_name!("domain").to_owned();
        let key = ServerKey::from_der(name, &row.private_key, &row.version).unwrap();
        assert_eq!(key.version(), "1");
        let public = BASE64.encode(key.public_key());
        assert_eq!(
            public.trim_end_matches('='),
            "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI"
        );
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for line in [
            "",
            "ed25519 a",
            "rsa a YWJj",
            "ed25519 a YWJj",
            "ed25519 a b c d",
            "ed25519 ! YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1",
        ] {
            assert!(read(line).is_err(), "{line:?}");
        }
    }
}
