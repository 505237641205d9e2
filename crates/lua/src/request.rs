//! An HTTP request as a script describes it, and its response. Who performs it is the host's
//! business.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// How long a request takes at most, unless it says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest response body, unless the request says otherwise.
pub const RESPONSE_OCTETS: usize = 1 << 20;
/// The largest response body that a request may ask for.
pub const RESPONSE_OCTETS_MAX: usize = 64 << 20;

/// One request.
#[derive(Clone)]
pub struct Request {
    /// How.
    pub method: Method,
    /// Where to; often enough the only secret of a webhook.
    pub url: SecretString,
    /// Header fields.
    pub headers: Vec<(String, SecretString)>,
    /// What is sent.
    pub body: Vec<u8>,
    /// How long it may take altogether.
    pub timeout: Duration,
    /// The largest response body to take.
    pub max_octets: usize,
    /// A file with authorities to trust in place of the platform's.
    pub ca_file: Option<PathBuf>,
    /// Whether it may go over the network in clear.
    pub danger_plaintext: bool,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("octets", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What a request is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Fetch.
    Get,
    /// Hand over.
    Post,
}

/// What came back.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header fields in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("octets", &self.body.len())
            .finish_non_exhaustive()
    }
}
