//! TLS policy: version 1.2 at least, certificates always checked, ring as the provider.

use std::{
    fmt, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{CertificateError, ClientConfig, ClientConnection, ProtocolVersion, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::TlsFailure;

/// Which authorities to trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// A PEM file with authorities to trust **instead of** the platform's. A server with a
    /// private authority needs no other, and the fewer the better.
    pub ca_file: Option<PathBuf>,
}

/// Why there is no TLS configuration.
#[derive(Debug)]
pub enum TlsError {
    /// The CA file could not be read or is not PEM.
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The CA file holds no certificate, or none that can be an authority.
    NoCertificates {
        /// The file.
        path: PathBuf,
    },
    /// The platform has no authorities to trust.
    NoPlatformRoots {
        /// What it said, if anything.
        why: String,
    },
    /// rustls would not take the configuration.
    Config(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CaFile { path, .. } => {
                write!(f, "cannot read certificates from {}", path.display())
            }
            Self::NoCertificates { path } => {
                write!(f, "{} holds no certificate of an authority", path.display())
            }
            Self::NoPlatformRoots { why } if why.is_empty() => {
                f.write_str("the platform's trust store is empty")
            }
            Self::NoPlatformRoots { why } => {
                write!(f, "the platform's trust store is empty: {why}")
            }
            Self::Config(_) => f.write_str("TLS cannot be configured"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::CaFile { source, .. } => Some(source),
            Self::Config(error) => Some(error),
            Self::NoCertificates { .. } | Self::NoPlatformRoots { .. } => None,
        }
    }
}

/// A configuration for connecting to servers: share it, so that handshakes can resume.
///
/// Reads files; call it where blocking is allowed.
pub fn client_config(roots: &Roots) -> Result<ClientConfig, TlsError> {
    let store = match &roots.ca_file {
        Some(path) => ca_file_roots(path)?,
        None => platform_roots()?,
    };
    client_config_trusting(store)
}

/// The same, for authorities that are already loaded.
pub fn client_config_trusting(store: RootCertStore) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Config)?;
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}

fn ca_file_roots(path: &PathBuf) -> Result<RootCertStore, TlsError> {
    let unreadable = |source| TlsError::CaFile {
        path: path.clone(),
        source,
    };
    let pem = std::fs::read(path).map_err(unreadable)?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| {
            unreadable(io::Error::new(
                io::ErrorKind::InvalidData,
                error.to_string(),
            ))
        })?;
        store.add_parsable_certificates([certificate]);
    }
    if store.is_empty() {
        Err(TlsError::NoCertificates { path: path.clone() })
    } else {
        Ok(store)
    }
}

fn platform_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found
            .errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ");
        return Err(TlsError::NoPlatformRoots { why });
    }
    Ok(store)
}

/// What was agreed with a server, and what its certificate says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// `TLS 1.3` or `TLS 1.2`.
    pub version: String,
    /// The cipher suite's registered name.
    pub cipher: String,
    /// The certificate's subject, as a distinguished name.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// When it expires.
    pub expires: Option<SystemTime>,
}

impl Session {
    pub(crate) fn of(connection: &ClientConnection) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
            other => format!("{other:?}"),
        };
        let suite = connection
            .negotiated_cipher_suite()
            .map(|suite| suite.suite());
        let cipher = suite
            .and_then(|suite| suite.as_str())
            .unwrap_or_default()
            .to_owned();
        let mut session = Self {
            version,
            cipher,
            ..Self::default()
        };
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        if let Some(Ok((_, certificate))) = certificate.map(|der| X509Certificate::from_der(der)) {
            session.subject = certificate.subject().to_string();
            session.issuer = certificate.issuer().to_string();
            let expires = u64::try_from(certificate.validity().not_after.timestamp()).ok();
            session.expires = expires.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        }
        session
    }
}

/// What a failed handshake means; its error holds one of rustls.
pub fn explain(error: &io::Error) -> TlsFailure {
    let Some(cause) = error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<rustls::Error>())
    else {
        return TlsFailure::Aborted(error.to_string());
    };
    match cause {
        rustls::Error::InvalidCertificate(reason) => explain_certificate(reason),
        rustls::Error::PeerIncompatible(
            rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13
            | rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )
        | rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion) => {
            TlsFailure::OldVersion
        }
        other => TlsFailure::Other(other.to_string()),
    }
}

fn explain_certificate(reason: &CertificateError) -> TlsFailure {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFailure::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsFailure::NotYetValid
        }
        CertificateError::NotValidForName => TlsFailure::WrongName {
            expected: "this server's name".to_owned(),
            presented: Vec::new(),
        },
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => TlsFailure::WrongName {
            expected: expected.to_str().into_owned(),
            presented: presented.iter().map(|name| plain_name(name)).collect(),
        },
        CertificateError::UnknownIssuer => TlsFailure::UnknownAuthority,
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            TlsFailure::AuthorityAsServer
        }
        other => TlsFailure::Other(other.to_string()),
    }
}

/// rustls shows a name as `DnsName("other.example")`.
fn plain_name(shown: &str) -> String {
    shown.split('"').nth(1).unwrap_or(shown).to_owned()
}
