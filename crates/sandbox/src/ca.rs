//! The sandbox's own certificate authority: made at start, gone at the end.
//!
//! Its private key never touches a disk. Clients trust it by `ca.pem`, which only the
//! sandbox's user can read or replace.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};

use jiff::{ToSpan as _, Zoned};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// A certificate authority that signs server certificates.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new one.
    ///
    /// # Errors
    /// The random source failed.
    pub fn new() -> Result<Self, CaError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "Postrider sandbox CA");
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// Its certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A TLS server's configuration with a certificate for these host names and IP
    /// addresses: TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// A name that no certificate can hold.
    pub fn server_config(&self, names: &[String]) -> Result<Arc<ServerConfig>, CaError> {
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "Postrider sandbox");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // Some platforms refuse server certificates valid for more than 825 days.
        let day = |days: i64| {
            let date = Zoned::now().date().saturating_add(days.days());
            let part = |n: i8| u8::try_from(n).unwrap_or(1);
            rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
        };
        (params.not_before, params.not_after) = (day(-2), day(800));
        let key = KeyPair::generate()?;
        let certificate: CertificateDer<'static> =
            params.signed_by(&key, &self.issuer)?.der().clone();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(CaError::new)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())
            .map_err(CaError::new)?;
        Ok(Arc::new(config))
    }

    /// Writes `ca.pem` into a directory, readable by its owner alone, and never half.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        // Temporary files are made with mode 0600; renaming keeps it.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(self.pem.as_bytes())?;
        file.persist(dir.join("ca.pem"))?;
        Ok(())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// Why a certificate could not be made.
#[derive(Debug)]
pub struct CaError(String);

impl CaError {
    #[allow(
        clippy::needless_pass_by_value,
        reason = "so that map_err reads plainly"
    )]
    fn new(cause: impl fmt::Display) -> Self {
        Self(cause.to_string())
    }
}

impl From<rcgen::Error> for CaError {
    fn from(cause: rcgen::Error) -> Self {
        Self::new(cause)
    }
}

impl fmt::Display for CaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot make a certificate: {}", self.0)
    }
}

impl std::error::Error for CaError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_certificate_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new().unwrap();

        authority.write(dir.path()).unwrap();
        authority.write(dir.path()).unwrap();

        let file = dir.path().join("ca.pem");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), authority.pem());
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_no_certificate_can_hold_is_refused() {
        assert!(
            Authority::new()
                .unwrap()
                .server_config(&["é".to_owned()])
                .is_err()
        );
    }
}
