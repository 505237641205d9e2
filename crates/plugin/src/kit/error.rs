//! Why a flow, or `create`, did not succeed: a kind to act on and a detail to show.

use std::fmt;
use std::time::Duration;

use crate::abi::ErrorKind;
use crate::wire::{ErrorDetail, Op};

/// Octets of an error's message that are kept: enough for any sentence, too little to
/// smuggle a document into a log.
const MESSAGE_OCTETS: usize = 1024;

/// A plugin's negative result.
///
/// `Display` is the message. Keep secrets out of it: the host scrubs those it knows, and
/// cannot know all.
#[derive(Clone, Debug)]
pub struct Error {
    /// What the host can act on.
    pub kind: ErrorKind,
    /// What a person can read, and the provider's own words.
    pub detail: Box<ErrorDetail>,
}

impl Error {
    /// An error whose message is one lower-case line; line breaks and other control
    /// characters become spaces, and what goes beyond 1024 octets is cut.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        if message.contains(char::is_control) {
            message = message.replace(char::is_control, " ");
        }
        message.truncate(message.floor_char_boundary(MESSAGE_OCTETS));
        Self {
            kind,
            detail: Box::new(ErrorDetail {
                message,
                ..ErrorDetail::default()
            }),
        }
    }

    /// Adds the provider's `error` code (RFC 6749 §5.2).
    #[must_use]
    pub fn with_oauth_error(mut self, code: impl Into<String>) -> Self {
        self.detail.oauth_error = Some(code.into());
        self
    }

    /// Adds the provider's `suberror`.
    #[must_use]
    pub fn with_oauth_suberror(mut self, code: impl Into<String>) -> Self {
        self.detail.oauth_suberror = Some(code.into());
        self
    }

    /// Adds the provider's `error_description`.
    #[must_use]
    pub fn with_oauth_description(mut self, text: impl Into<String>) -> Self {
        self.detail.oauth_description = Some(text.into());
        self
    }

    /// Says when a retry makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.detail.retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Adds a page that helps a person.
    #[must_use]
    pub fn with_user_url(mut self, url: impl Into<String>) -> Self {
        self.detail.user_url = Some(url.into());
        self
    }

    pub(super) fn unsupported(op: Op) -> Self {
        let op = match op {
            Op::Login => "login",
            Op::Obtain => "obtain",
            Op::Sasl => "sasl",
            Op::Revoke => "revoke",
        };
        Self::new(
            ErrorKind::Unsupported,
            format!("this plugin has no operation `{op}`"),
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_bounded_line() {
        let error = Error::new(ErrorKind::Denied, format!("no\r\n{}", "é".repeat(2000)));
        assert!(error.detail.message.starts_with("no  éé"));
        assert!(error.detail.message.len() <= MESSAGE_OCTETS);
    }

    #[test]
    fn a_wait_is_carried_in_milliseconds() {
        let error =
            Error::new(ErrorKind::Transient, "busy").with_retry_after(Duration::from_secs(5));
        assert_eq!(error.detail.retry_after_ms, Some(5000));
    }
}
