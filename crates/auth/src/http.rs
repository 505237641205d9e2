//! HTTP for plugins.
use std::fmt;
use std::time::Duration;

/// How plugins' requests are made.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Trust anchors and TLS versions (1.2 at least).
    pub tls: rustls::ClientConfig,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long a request may take altogether.
    pub total_timeout: Duration,
    /// The largest response body, in octets.
    pub body_cap: usize,
    /// Which proxy to go through.
    pub proxy: ProxySetting,
}

/// Which proxy to go through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ProxySetting {
    /// `HTTPS_PROXY` and `NO_PROXY` of the environment, upper or lower case.
    #[default]
    Environment,
    /// None.
    Direct,
    /// This one.
    Explicit {
        /// The proxy's URL.
        url: String,
        /// Hosts to reach without it, as in `NO_PROXY`.
        no_proxy: String,
    },
}

impl HttpSettings {
    /// The usual limits: 10 s to connect, 30 s altogether, 1 MiB.
    pub fn new(tls: rustls::ClientConfig) -> Self {
        Self {
            tls,
            connect_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(30),
            body_cap: 1 << 20,
            proxy: ProxySetting::default(),
        }
    }
}

/// Why the HTTP client could not be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpError(pub(crate) String);

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HttpError {}

/// Performs plugins' HTTP requests.
#[derive(Clone, Debug)]
pub struct Http {}

impl Http {
    /// A client with these settings.
    pub fn new(settings: HttpSettings) -> Result<Self, HttpError> {
        let _ = settings;
        Ok(Self {})
    }
}
