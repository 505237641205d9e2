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

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::rsa::KeyPair as RsaKeyPair;
    use ring::signature::{RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256, UnparsedPublicKey};
    use rustls_pki_types::pem::PemObject as _;
    use secrecy::ExposeSecret as _;
    use x509_parser::prelude::FromDer as _;

    use super::*;

    const YEAR: Duration = Duration::from_hours(24 * 365);

    #[test]
    fn the_key_signs_what_the_certificate_verifies() {
        let now = "2026-11-23T10:00:00.5Z".parse().unwrap();

        let made = make("alerts", YEAR, now).unwrap();

        let (_, certificate) =
            x509_parser::certificate::X509Certificate::from_der(&made.certificate_der).unwrap();
        assert_eq!(certificate.subject().to_string(), "CN=alerts");
        assert!(!certificate.is_ca());
        assert_eq!(made.starts.to_string(), "2026-11-23T09:55:00Z");
        assert_eq!(made.ends.to_string(), "2027-11-23T10:00:00Z");
        let validity = certificate.validity();
        assert_eq!(validity.not_before.timestamp(), made.starts.as_second());
        assert_eq!(validity.not_after.timestamp(), made.ends.as_second());
        let key =
            PrivatePkcs8KeyDer::from_pem_slice(made.private_key_pem.expose_secret().as_bytes())
                .unwrap();
        let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(
            &RSA_PSS_SHA256,
            &SystemRandom::new(),
            b"a JWT",
            &mut signature,
        )
        .unwrap();
        UnparsedPublicKey::new(
            &RSA_PSS_2048_8192_SHA256,
            &certificate.public_key().subject_public_key.data,
        )
        .verify(b"a JWT", &signature)
        .unwrap();
    }

    #[test]
    fn the_key_does_not_show() {
        let made = make("alerts", YEAR, "2026-11-23T10:00:00Z".parse().unwrap()).unwrap();

        let shown = format!("{made:?}");

        assert!(shown.contains(&made.thumbprint_sha256));
        assert!(!shown.contains("PRIVATE"));
        assert_eq!(made.thumbprint_sha256.len(), 64);
    }

    #[test]
    fn a_lifetime_beyond_the_calendar_is_an_error() {
        let now = "2026-11-23T10:00:00Z".parse().unwrap();

        let error = make("alerts", Duration::MAX, now).unwrap_err();

        assert!(
            error
                .to_string()
                .starts_with("a certificate could not be made")
        );
    }

    #[test]
    fn a_long_or_odd_subject_is_cut_to_what_a_name_may_hold() {
        let name = common_name(&format!("a\nb{}", "é".repeat(80)));

        assert_eq!(name.chars().count(), LONGEST_NAME);
        assert!(name.starts_with("abé"));
    }
}
