//! Why an account's credential was not obtained or not usable.
//!
//! One error type, sorted by what the caller can do about it. Everything in it that came
//! from a plugin or a provider has been scrubbed of known secrets and bounded.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use postrider_plugin::abi::ErrorKind;

/// Why an account's credential was not obtained or not usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthError {
    /// The account, as the config names it.
    pub account: String,
    /// What the caller can act on.
    pub kind: AuthErrorKind,
    /// What happened, one lower-case line.
    pub message: String,
    /// `error` of the provider (RFC 6749 §5.2).
    pub oauth_error: Option<String>,
    /// `suberror` of Entra ID.
    pub oauth_suberror: Option<String>,
    /// `error_description` of the provider.
    pub oauth_description: Option<String>,
    /// When a retry makes sense.
    pub retry_after: Option<Duration>,
    /// A page that helps a person.
    pub user_url: Option<String>,
    /// What the store of tokens itself says, where it is at fault.
    pub cause: Option<Cause>,
}

/// An error beneath another, as [`source`](std::error::Error::source) gives it. Equal to its
/// clones only.
#[derive(Clone, Debug)]
pub struct Cause(Arc<dyn std::error::Error + Send + Sync>);

impl Cause {
    /// This error as a cause.
    pub fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }

    /// The error, if it is of this type.
    pub fn downcast_ref<E: std::error::Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}

impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Cause {}

/// The outcomes that call for different actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthErrorKind {
    /// A setting is missing or wrong: change it.
    Config,
    /// A person must sign in first.
    NeedsUser,
    /// The grant lapsed or was revoked (`invalid_grant`): a person must sign in again.
    InvalidGrant,
    /// The other side is unreachable or asks for patience: retry later.
    Transient,
    /// The provider refuses this account or client: an administrator must allow it.
    Denied,
    /// Plugin, provider or server said something that makes no sense here.
    Protocol,
    /// The plugin does not do this, or speaks none of the server's mechanisms.
    Unsupported,
    /// The plugin failed in itself: report it to its author.
    Internal,
    /// The plugin did not return from a call in time; this account cannot use it until the
    /// host restarts.
    Unresponsive,
}

impl AuthErrorKind {
    /// Its name, for who counts or reports it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::NeedsUser => "needs_user",
            Self::InvalidGrant => "invalid_grant",
            Self::Transient => "transient",
            Self::Denied => "denied",
            Self::Protocol => "protocol",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
            Self::Unresponsive => "unresponsive",
        }
    }

    /// Whether the same attempt may succeed later with nothing changed.
    pub fn is_transient(self) -> bool {
        self == Self::Transient
    }
}

impl From<ErrorKind> for AuthErrorKind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Config => Self::Config,
            ErrorKind::NeedsUser => Self::NeedsUser,
            ErrorKind::InvalidGrant => Self::InvalidGrant,
            ErrorKind::Transient => Self::Transient,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Protocol => Self::Protocol,
            ErrorKind::Unsupported => Self::Unsupported,
            ErrorKind::Internal => Self::Internal,
        }
    }
}

impl AuthError {
    /// An error of `account` without a provider's details.
    pub(crate) fn new(account: &str, kind: AuthErrorKind, message: impl Into<String>) -> Self {
        Self {
            account: account.to_owned(),
            kind,
            message: message.into(),
            oauth_error: None,
            oauth_suberror: None,
            oauth_description: None,
            retry_after: None,
            user_url: None,
            cause: None,
        }
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account {:?}: {}", self.account, self.message)
    }
}

impl std::error::Error for AuthError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let cause = self.cause.as_ref()?;
        Some(&*cause.0)
    }
}
