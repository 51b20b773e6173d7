//! The key that this server signs its events with.

use std::fmt;

use ruma::{
    OwnedServerName, ServerName,
    signatures::{Ed25519KeyPair, KeyPair, Signature},
};

/// An ed25519 key of this server. Its private half is not shown by `Debug`.
pub struct ServerKey {
    server_name: OwnedServerName,
    pair: Ed25519KeyPair,
}

impl ServerKey {
    /// Reads a key from PKCS#8 (DER), as [`ServerKey::generate`] makes it. `version` is the part after `ed25519:` of
    /// its id.
    pub fn from_der(server_name: OwnedServerName, der: &[u8], version: &str) -> Option<Self> {
        let pair = Ed25519KeyPair::from_der(der, version.to_owned()).ok()?;
        Some(Self { server_name, pair })
    }

    /// A new private key, PKCS#8 (DER), from the operating system's randomness.
    pub fn generate() -> Vec<u8> {
        Ed25519KeyPair::generate().to_vec()
    }

    /// The server that it signs for.
    pub fn server_name(&self) -> &ServerName {
        &self.server_name
    }

    /// The part after `ed25519:` of the key's id.
    pub fn version(&self) -> &str {
        self.pair.version()
    }

    /// The pair, to sign requests with.
    pub fn pair(&self) -> &Ed25519KeyPair {
        &self.pair
    }

    /// The public half.
    pub fn public_key(&self) -> [u8; 32] {
        self.pair.public_key()
    }
}

impl KeyPair for ServerKey {
    fn sign(&self, message: &[u8]) -> Signature {
        self.pair.sign(message)
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ServerKey")
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}
