//! How a session authenticates: octets from somewhere else, carried here.
//!
//! A session knows no mechanism. It offers the server's list and gets an exchange that knows
//! what to say; whoever implements this holds the secrets.

use std::{error::Error, fmt};

use futures_util::future::BoxFuture;

/// One account's way to prove who it is.
pub trait Authenticator: Send + Sync {
    /// Starts an exchange with a server that offers these mechanisms (upper case).
    fn begin<'a>(
        &'a self,
        offered: &'a [String],
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn SaslExchange>, SaslError>>;

    /// The server refused (535) a credential of this generation: it may be stale.
    fn rejected(&self, generation: u64) -> BoxFuture<'_, ()>;

    /// The generation of the credential in force, where that is known without waiting.
    ///
    /// Idle sessions that authenticated with an older one are retired.
    fn generation(&self) -> Option<u64> {
        None
    }
}

/// One exchange, from the mechanism's name to the last response. Octets are before Base64.
pub trait SaslExchange: Send {
    /// The mechanism's registered name, as it stands after `AUTH`.
    fn mechanism(&self) -> &str;

    /// The response to send with, or right after, the command; `None` when the server speaks
    /// first.
    fn initial_response(&self) -> Option<Vec<u8>>;

    /// Which credential this exchange uses; a refreshed token has a higher number.
    fn generation(&self) -> u64;

    /// What the server said, without any secret that it repeats. The octets sent are taken out
    /// before this is asked.
    fn mask(&self, text: &str) -> String {
        text.to_owned()
    }

    /// The answer to the server's challenge.
    fn respond<'a>(&'a mut self, challenge: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, SaslError>>;
}

/// Why there is no exchange or no response.
///
/// `source` keeps the implementer's own error, for a caller that knows its type.
#[derive(Debug)]
pub struct SaslError {
    /// One lower-case line; never holds a secret.
    pub message: String,
    /// The cause, where there is more to tell.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl SaslError {
    /// An error with nothing behind it.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }

    /// An error that keeps its cause.
    pub fn caused_by(source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            message: source.to_string(),
            source: Some(Box::new(source)),
        }
    }
}

impl fmt::Display for SaslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for SaslError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}
