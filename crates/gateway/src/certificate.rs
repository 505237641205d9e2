//! What a gateway proves itself with: files that may change while it runs, or a certificate it
//! made itself.
//!
//! Changed files are read again at a handshake, every few seconds at most. Those that cannot be
//! used change nothing: the last good certificate stays.

use std::fs::{self, DirBuilder, Metadata};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan as _, Zoned};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::settings::{Certificate, Settings};
use crate::{GatewayError, event::Event};

/// Changes are looked for this often at most.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A certificate file larger than this is none.
const MAX_FILE_OCTETS: u64 = 1024 * 1024;
/// A self-made certificate's days: nobody renews what is pinned by hand, and a printer that
/// trusts it is to outlive it.
const SELF_MADE_DAYS: i64 = 3650;

/// What people need to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// SHA-256, hexadecimal with colons.
    pub fingerprint: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Where it is.
    pub file: PathBuf,
    /// Whether it was made here.
    pub self_made: bool,
}

/// What this gateway proves itself with; what it makes itself is made if it is not there.
///
/// # Errors
/// The files cannot be used, or none can be made.
pub fn certificate(settings: &Settings, now: Timestamp) -> Result<CertificateFacts, GatewayError> {
    Ok(Identity::load(settings, now, |_| {})?.facts())
}

/// A certificate in use.
pub(crate) struct Identity {
    source: Certificate,
    loaded: Mutex<Loaded>,
    tell: Box<dyn Fn(Change) + Send + Sync>,
}

/// What became of changed files.
pub(crate) enum Change {
    Loaded { fingerprint: String },
    Failed { problem: String },
}

impl Change {
    pub(crate) fn event(self, gateway: Arc<str>) -> Event {
        match self {
            Self::Loaded { fingerprint } => Event::CertificateLoaded {
                gateway,
                fingerprint,
            },
            Self::Failed { problem } => Event::CertificateFailed { gateway, problem },
        }
    }
}

struct Loaded {
    key: Arc<CertifiedKey>,
    facts: CertificateFacts,
    /// The files as they were when they were read last, whatever came of it.
    stamps: Vec<Option<Stamp>>,
    looked_at: Instant,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    octets: u64,
    modified: (i64, i64),
}

impl Identity {
    /// Reads the files, or makes what is missing. `tell` hears of later changes.
    pub(crate) fn load(
        settings: &Settings,
        now: Timestamp,
        tell: impl Fn(Change) + Send + Sync + 'static,
    ) -> Result<Self, GatewayError> {
        let source = settings.certificate.clone();
        let stamps = stamps(&source);
        let loaded = match &source {
            Certificate::Files { certificate, key } => read(certificate, key, false),
            Certificate::SelfMade { file } => match read(file, file, true) {
                Ok((key, facts)) if facts.expires_at > now => Ok((key, facts)),
                Ok(_) => make(file, settings).and_then(|()| read(file, file, true)),
                Err(GatewayError::File { source, .. })
                    if source.kind() == io::ErrorKind::NotFound =>
                {
                    make(file, settings).and_then(|()| read(file, file, true))
                }
                Err(error) => Err(error),
            },
        };
        let (key, facts) = loaded?;
        Ok(Self {
            source,
            loaded: Mutex::new(Loaded {
                key,
                facts,
                stamps,
                looked_at: Instant::now(),
            }),
            tell: Box::new(tell),
        })
    }

    /// What is in use.
    pub(crate) fn facts(&self) -> CertificateFacts {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.facts.clone()
    }

    /// Reads the files again if they changed.
    pub(crate) fn look(&self) {
        let change = {
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            self.look_at(&mut loaded)
        };
        if let Some(change) = change {
            (self.tell)(change);
        }
    }

    fn look_at(&self, loaded: &mut Loaded) -> Option<Change> {
        let Certificate::Files { certificate, key } = &self.source else {
            return None;
        };
        loaded.looked_at = Instant::now();
        let stamps = stamps(&self.source);
        if loaded.stamps == stamps {
            return None;
        }
        loaded.stamps = stamps;
        match read(certificate, key, false) {
            Ok((_, facts)) if facts == loaded.facts => None,
            Ok((key, facts)) => {
                (loaded.key, loaded.facts) = (key, facts);
                let fingerprint = loaded.facts.fingerprint.clone();
                Some(Change::Loaded { fingerprint })
            }
            Err(error) => {
                let source = std::error::Error::source(&error);
                let source = source.map_or_else(String::new, |source| format!(": {source}"));
                let problem = format!("{error}{source}");
                Some(Change::Failed { problem })
            }
        }
    }

    /// For handshakes: TLS 1.2 and 1.3.
    pub(crate) fn config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, GatewayError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| GatewayError::Certificate {
                path: self.facts().file,
                problem: error.to_string(),
            })?;
        let mut config = config
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        // Devices that resume are rare, and each ticket is memory here.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (key, change) = {
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            let change = if loaded.looked_at.elapsed() >= LOOK_EVERY {
                self.look_at(&mut loaded)
            } else {
                None
            };
            (Arc::clone(&loaded.key), change)
        };
        if let Some(change) = change {
            (self.tell)(change);
        }
        Some(key)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

fn stamps(source: &Certificate) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| fs::metadata(path).ok().map(|found| Stamp::of(&found));
    match source {
        Certificate::Files { certificate, key } => vec![stamp(certificate), stamp(key)],
        Certificate::SelfMade { .. } => Vec::new(),
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            octets: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

type Read = (Arc<CertifiedKey>, CertificateFacts);

/// A chain and its key, which belong together.
fn read(certificate: &Path, key: &Path, self_made: bool) -> Result<Read, GatewayError> {
    let wrong = |path: &Path, problem: &str| GatewayError::Certificate {
        path: path.to_owned(),
        problem: problem.to_owned(),
    };
    let chain = file(certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
    let chain = chain.map_err(|_| wrong(certificate, "this is not PEM"))?;
    let Some(first) = chain.first().cloned() else {
        return Err(wrong(certificate, "there is no certificate in it"));
    };
    let private = zeroize::Zeroizing::new(file(key)?);
    let private = PrivateKeyDer::from_pem_slice(&private)
        .map_err(|_| wrong(key, "there is no private key in it that is not encrypted"))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&first)
        .map_err(|_| wrong(certificate, "the first certificate in it cannot be read"))?;
    let expires_at =
        Timestamp::from_second(parsed.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX);
    let certified = CertifiedKey::from_der(chain, private, provider()).map_err(|error| {
        let problem = match error {
            rustls::Error::InconsistentKeys(_) => "the key is not this certificate's".to_owned(),
            error => error.to_string(),
        };
        wrong(certificate, &problem)
    })?;
    let facts = CertificateFacts {
        fingerprint: fingerprint(&first),
        expires_at,
        file: certificate.to_owned(),
        self_made,
    };
    Ok((Arc::new(certified), facts))
}

fn provider() -> &'static CryptoProvider {
    static PROVIDER: std::sync::LazyLock<CryptoProvider> =
        std::sync::LazyLock::new(rustls::crypto::ring::default_provider);
    &PROVIDER
}

fn file(path: &Path) -> Result<Vec<u8>, GatewayError> {
    let failed = |source| GatewayError::File {
        path: path.to_owned(),
        source,
    };
    let found = fs::metadata(path).map_err(failed)?;
    if !found.is_file() || found.len() > MAX_FILE_OCTETS {
        return Err(GatewayError::Certificate {
            path: path.to_owned(),
            problem: format!("this is no file of at most {MAX_FILE_OCTETS} octets"),
        });
    }
    fs::read(path).map_err(failed)
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let octets: Vec<String> = digest
        .as_ref()
        .iter()
        .map(|octet| format!("{octet:02X}"))
        .collect();
    octets.join(":")
}

/// Makes one for the gateway's name and addresses, and keeps it.
fn make(path: &Path, settings: &Settings) -> Result<(), GatewayError> {
    let text = self_made(settings).map_err(|error| GatewayError::Certificate {
        path: path.to_owned(),
        problem: format!("no certificate can be made: {error}"),
    })?;
    let keep = || -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // Temporary files are made with mode 0600; renaming keeps it.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    keep().map_err(|source| GatewayError::File {
        path: path.to_owned(),
        source,
    })
}

/// A certificate and its key, in PEM.
fn self_made(settings: &Settings) -> Result<zeroize::Zeroizing<String>, rcgen::Error> {
    let mut names = Vec::new();
    // A name in other letters is none that a certificate can hold.
    names.extend(
        Some(&settings.hostname)
            .filter(|name| name.is_ascii())
            .cloned(),
    );
    let addresses = settings.listen.iter().map(SocketAddr::ip);
    names.extend(
        addresses
            .filter(|address| !address.is_unspecified())
            .map(|address| address.to_string()),
    );
    if settings.listen.iter().any(|address| is_here(address.ip())) {
        names.push("localhost".to_owned());
    }
    names.dedup();
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, settings.hostname.clone());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let day = |days: i64| {
        let date = Zoned::now().date().saturating_add(days.days());
        let part = |n: i8| u8::try_from(n).unwrap_or(1);
        rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    (params.not_before, params.not_after) = (day(-2), day(SELF_MADE_DAYS));
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    let private = zeroize::Zeroizing::new(key.serialize_pem());
    Ok(zeroize::Zeroizing::new(format!(
        "{certificate}{}",
        *private
    )))
}

fn is_here(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}
