//! What carries requests: a trait, so that this crate opens no socket.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

/// The largest answer that a transport should read, in octets.
///
/// Graph's own service principal, read for the permissions it knows, is the largest thing asked
/// for: between one and two megabytes.
pub const RESPONSE_OCTETS: usize = 8 << 20;

/// Performs requests. It verifies the server, follows no redirect, reads no more than
/// [`RESPONSE_OCTETS`] and gives up after a time of its own.
pub trait Transport: Send + Sync {
    /// Sends `request` and reads the whole answer, whatever its status.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>>;

    /// Waits for `how_long`.
    fn pause(&self, how_long: Duration) -> BoxFuture<'_, ()>;
}

/// A method of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates, or performs an action.
    Post,
    /// Sets the properties given.
    Patch,
    /// Removes.
    Delete,
}

impl Method {
    /// The method's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// A request to be sent as it is, with `Authorization: Bearer` and, where there is a body,
/// `Content-Type: application/json` added.
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where to; always `https`.
    pub url: Url,
    /// Header fields besides those that every request has.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body.
    pub body: Option<Value>,
    /// The access token.
    pub bearer: SecretString,
}

/// Without the token and the body.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

/// What the server answered.
#[derive(Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// `Retry-After`: how long the server asks to be left alone. A date in that field is for
    /// the transport to turn into a duration.
    pub retry_after: Option<Duration>,
    /// The field `request-id`, which Microsoft's support asks for.
    pub request_id: Option<String>,
    /// The body, of [`RESPONSE_OCTETS`] at most.
    pub body: Vec<u8>,
}

/// Without the body, which may hold a new secret.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("retry_after", &self.retry_after)
            .field("request_id", &self.request_id)
            .field("body_octets", &self.body.len())
            .finish()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub struct TransportError {
    /// What the caller can act on.
    pub kind: TransportErrorKind,
    /// What happened, in one line and without secrets.
    pub message: String,
    /// What lies beneath.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// How far a request came.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportErrorKind {
    /// Not to the server: name, connection or TLS failed, nothing was sent.
    NotSent,
    /// Perhaps to the server: the connection broke, or no answer came in time.
    Interrupted,
    /// The answer is larger than the transport reads.
    TooLarge,
}

impl TransportError {
    /// An error of this kind, told in one line.
    pub fn new(kind: TransportErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same, with what lies beneath.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for TransportError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}
