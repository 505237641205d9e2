//! Why a gateway cannot run as it is set up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::{fmt, io};

/// Why a gateway did not start, or did not take new settings.
#[derive(Debug)]
#[non_exhaustive]
pub enum GatewayError {
    /// Nobody can listen there.
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate or key cannot be read, or kept.
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate and its key are not to be used.
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong, on one line.
        problem: String,
    },
}

impl fmt::Display for GatewayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, .. } => write!(f, "cannot listen on {address}"),
            Self::File { path, .. } => write!(f, "cannot use {}", path.display()),
            Self::Certificate { path, problem } => write!(f, "{}: {problem}", path.display()),
        }
    }
}

impl std::error::Error for GatewayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen { source, .. } | Self::File { source, .. } => Some(source),
            Self::Certificate { .. } => None,
        }
    }
}
