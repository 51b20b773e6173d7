//! A server certificate signed by Complement's authority.

use anyhow::Context;
use pkcs8::{
    AlgorithmIdentifierRef, ObjectIdentifier, PrivateKeyInfoRef,
    der::{
        Encode,
        asn1::{AnyRef, OctetStringRef},
    },
};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, pem::PemObject};

/// rsaEncryption, RFC 8017 appendix A.1.
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// A server's certificate and its key, both as PEM.
pub(crate) struct Leaf {
    /// The certificate, followed by nothing: every peer in a run knows the authority.
    pub(crate) certificate: String,
    /// The key, as PKCS#8.
    pub(crate) private_key: String,
}

/// Signs a certificate for `server_name` with the authority given as PEM: an X.509 certificate and its RSA key in the
/// form that Go writes (PKCS#1, `RSA PRIVATE KEY`).
pub(crate) fn issue(ca_certificate: &str, ca_key: &str, server_name: &str) -> anyhow::Result<Leaf> {
    let rsa = PrivatePkcs1KeyDer::from_pem_slice(ca_key.as_bytes())
        .context("reading the authority's key")?;
    let ca_key = KeyPair::try_from(&as_pkcs8(&rsa)?).context("using the authority's key")?;
    let issuer = Issuer::from_ca_cert_pem(ca_certificate, ca_key)
        .context("reading the authority's certificate")?;

    // The default validity (1975 to 4096) outlasts any test and needs no clock.
    let mut parameters = CertificateParams::new([server_name.to_owned()])?;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;

    let key = KeyPair::generate()?;
    let certificate = parameters
        .signed_by(&key, &issuer)
        .context("signing the certificate")?;
    Ok(Leaf {
        certificate: certificate.pem(),
        private_key: key.serialize_pem(),
    })
}

/// Wraps an RSA key, because ring reads nothing but PKCS#8 here.
fn as_pkcs8(rsa: &PrivatePkcs1KeyDer<'_>) -> anyhow::Result<PrivatePkcs8KeyDer<'static>> {
    let algorithm = AlgorithmIdentifierRef {
        oid: RSA_ENCRYPTION,
        parameters: Some(AnyRef::NULL),
    };
    let key = OctetStringRef::new(rsa.secret_pkcs1_der())?;
    Ok(PrivateKeyInfoRef::new(algorithm, key).to_der()?.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    };
    use rustls_pki_types::pem::PemObject;

    use super::issue;

    // An authority of the shape that Complement makes: RSA 4096, PKCS#1, a subject of seven parts. It is trusted nowhere.
    const AUTHORITY: &str = include_str!("../fixtures/authority.crt");
    const AUTHORITY_KEY: &str = include_str!("../fixtures/authority.key");

    /// A moment when the authority of the fixture is valid.
    const NOW: UnixTime = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));

    fn verify(certificate: &str, name: &'static str) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(AUTHORITY.as_bytes()).unwrap())
            .unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::new(ring::default_provider()),
        )
        .build()
        .unwrap();
        let leaf = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let name = ServerName::try_from(name).unwrap();
        verifier
            .verify_server_cert(&leaf, &[], &name, &[], NOW)
            .map(drop)
    }

    #[test]
    fn a_peer_that_knows_the_authority_accepts_the_certificate_for_its_name_only() {
        let leaf = issue(AUTHORITY, AUTHORITY_KEY, "hs1").unwrap();
        verify(&leaf.certificate, "hs1").unwrap();
        verify(&leaf.certificate, "hs2").unwrap_err();
    }

    #[test]
    fn the_key_that_is_written_belongs_to_the_certificate() {
        let leaf = issue(AUTHORITY, AUTHORITY_KEY, "hs1").unwrap();
        let chain = vec![CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(leaf.private_key.as_bytes()).unwrap();
        rustls::sign::CertifiedKey::from_der(chain, key, &ring::default_provider())
            .unwrap()
            .keys_match()
            .unwrap();
    }

    #[test]
    fn an_authority_without_a_usable_key_is_an_error_that_says_so() {
        let error = issue(AUTHORITY, AUTHORITY, "hs1").err().unwrap();
        assert!(error.to_string().contains("the authority's key"), "{error}");
    }
}
