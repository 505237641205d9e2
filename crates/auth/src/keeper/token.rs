//! Access tokens, and what a flow brings.

use std::fmt;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use postrider_plugin::wire::{Identity, Secret};
use secrecy::SecretString;

use crate::error::AuthError;

/// An access token and what is known of it.
#[derive(Clone)]
pub struct AccessToken {
    pub(crate) value: SecretString,
    pub(crate) token_type: String,
    pub(crate) expires_at: SystemTime,
    pub(crate) next_refresh: SystemTime,
    pub(crate) scope: Option<String>,
    pub(crate) generation: u64,
}

impl AccessToken {
    /// The token itself.
    pub fn value(&self) -> &SecretString {
        &self.value
    }

    /// How it is used: `Bearer`, as a rule.
    pub fn token_type(&self) -> &str {
        &self.token_type
    }

    /// When it expires, counted from when it was asked for.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// When the next one is fetched.
    pub fn next_refresh(&self) -> SystemTime {
        self.next_refresh
    }

    /// Scopes granted, separated by spaces, if the provider said.
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// Which token of its grant this is; grows with each, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("expires_at", &self.expires_at)
            .field("scope", &self.scope)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// What a flow brought.
#[derive(Clone)]
pub(crate) struct Obtained {
    pub(crate) access: SecretString,
    pub(crate) token_type: Option<String>,
    pub(crate) refresh: Option<Secret>,
    pub(crate) refresh_lifetime: Option<Duration>,
    pub(crate) scope: Option<String>,
    pub(crate) requested_at: SystemTime,
    pub(crate) lifetime: Duration,
    pub(crate) refresh_in: Option<Duration>,
    pub(crate) identity: Option<Identity>,
}

/// Why a flow brought nothing.
#[derive(Clone, Debug)]
pub(crate) struct NotObtained {
    pub(crate) error: AuthError,
    /// Whether the provider may have done what was asked without our hearing of it: a
    /// request went out, and no answer that says otherwise came back.
    pub(crate) unheard: bool,
}

/// Where a grant's tokens come from.
pub(crate) trait TokenSource: Send + Sync {
    /// Asks the provider for a token, with this refresh token if there is one.
    fn obtain(&self, refresh: Option<Secret>) -> BoxFuture<'static, Result<Obtained, NotObtained>>;

    /// Whether a person signs in: without a refresh token there is nothing to ask then.
    fn is_signed_in_to(&self) -> bool {
        false
    }
}
