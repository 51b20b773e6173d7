//! The cryptography behind `jsonwebtoken`: ring, which is in this program for TLS already.

use jsonwebtoken::{
    Algorithm, DecodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
};
use ring::{hmac, signature as ring_signature};
use signature::Verifier;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // Needed for JSON Web Keys only.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has `jsonwebtoken` use ring, in the whole process.
pub(super) fn install() {
    // Refused if it was done before, which is fine.
    let _ = PROVIDER.install_default();
}

/// This program signs no such tokens.
fn signer(_: &Algorithm, _: &jsonwebtoken::EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let key = key.try_get_as_bytes()?;
    let secret = |kind| Key::Secret(hmac::Key::new(kind, key));
    let public = |kind| Key::Public(ring_signature::UnparsedPublicKey::new(kind, key.to_vec()));
    let key = match algorithm {
        Algorithm::HS256 => secret(hmac::HMAC_SHA256),
        Algorithm::HS384 => secret(hmac::HMAC_SHA384),
        Algorithm::HS512 => secret(hmac::HMAC_SHA512),
        Algorithm::RS256 => public(&ring_signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => public(&ring_signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => public(&ring_signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => public(&ring_signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => public(&ring_signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => public(&ring_signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => public(&ring_signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => public(&ring_signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => public(&ring_signature::ED25519),
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(Box::new(RingVerifier {
        algorithm: *algorithm,
        key,
    }))
}

struct RingVerifier {
    algorithm: Algorithm,
    key: Key,
}

enum Key {
    Secret(hmac::Key),
    Public(ring_signature::UnparsedPublicKey<Vec<u8>>),
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match &self.key {
            Key::Secret(key) => hmac::verify(key, message, signature),
            Key::Public(key) => key.verify(message, signature),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
