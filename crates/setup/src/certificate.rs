//! A key and a certificate of it, for an application that proves itself with a signature.
//!
//! RSA, since Entra takes PS256 and RS256 only.

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
};
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use rustls_pki_types::PrivatePkcs8KeyDer;
use secrecy::SecretString;

use crate::error::{SetupError, SetupErrorKind};

/// The key's length: what Entra's own examples use.
const BITS: usize = 2048;

/// How long before the present a certificate is valid from: clocks differ.
const EARLIER: Duration = Duration::from_mins(5);

/// A certificate, and the private key of it.
pub struct Made {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The certificate, DER: what Graph is given.
    pub certificate_der: Vec<u8>,
    /// The private key, PKCS #8 PEM.
    pub private_key_pem: SecretString,
    /// SHA-256 over the certificate, in lower-case hexadecimal.
    pub thumbprint_sha256: String,
    /// From when it is valid.
    pub starts: Timestamp,
    /// Until when it is valid.
    pub ends: Timestamp,
}

/// Makes a key, and a certificate of it that names `subject` and is signed by itself. Takes a
/// moment of CPU: call it off a runtime's threads where that matters.
///
/// # Errors
///
/// [`SetupErrorKind::Certificate`]: the system's randomness failed, or the times lie beyond
/// what a certificate can say.
pub fn make(subject: &str, lifetime: Duration, now: Timestamp) -> Result<Made, SetupError> {
    let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap_or(time);
    let starts = whole(now.checked_sub(EARLIER).map_err(failed)?);
    let ends = whole(now.checked_add(lifetime).map_err(failed)?);

    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, BITS).map_err(failed)?;
    let pkcs8 = key.to_pkcs8_der().map_err(failed)?;
    let private_key_pem = key.to_pkcs8_pem(LineEnding::LF).map_err(failed)?;
    let signer = KeyPair::from_pkcs8_der_and_sign_algo(
        &PrivatePkcs8KeyDer::from(pkcs8.as_bytes()),
        &PKCS_RSA_SHA256,
    )
    .map_err(failed)?;

    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name(subject));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = SystemTime::from(starts).into();
    params.not_after = SystemTime::from(ends).into();
    let certificate = params.self_signed(&signer).map_err(failed)?;

    let digest = ring::digest::digest(&ring::digest::SHA256, certificate.der());
    Ok(Made {
        certificate_pem: certificate.pem(),
        certificate_der: certificate.der().to_vec(),
        private_key_pem: SecretString::from(private_key_pem.as_str()),
        thumbprint_sha256: hexadecimal(digest.as_ref()),
        starts,
        ends,
    })
}

/// The longest common name (RFC 5280, appendix A.1, `ub-common-name`), in characters.
const LONGEST_NAME: usize = 64;

fn common_name(subject: &str) -> String {
    subject
        .chars()
        .filter(|c| !c.is_control())
        .take(LONGEST_NAME)
        .collect()
}

/// Two digits for each octet, in lower case.
pub(crate) fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        // Writing to a string does not fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn failed(cause: impl fmt::Display) -> SetupError {
    SetupError {
        step: None,
        kind: SetupErrorKind::Certificate(format!("a certificate could not be made: {cause}")),
    }
}

/// Without the private key.
impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made")
            .field("thumbprint_sha256", &self.thumbprint_sha256)
            .field("starts", &self.starts)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}
