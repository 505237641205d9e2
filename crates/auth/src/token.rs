//! Access tokens, and who holds them for this process.
use std::fmt;
use std::time::SystemTime;

use secrecy::SecretString;

/// An access token and what is known of it.
#[derive(Clone)]
pub struct AccessToken {
    pub(crate) value: SecretString,
    pub(crate) expires_at: SystemTime,
    pub(crate) scope: Option<String>,
    pub(crate) generation: u64,
}

impl AccessToken {
    /// The token itself.
    pub fn value(&self) -> &SecretString {
        &self.value
    }

    /// When it expires, counted from when it was asked for.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Scopes granted, separated by spaces, if the provider said.
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// Which token of its grant this is; grows with each.
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

/// The tokens of this process, one refresh in flight per grant.
#[derive(Clone, Debug, Default)]
pub struct TokenStore {}

impl TokenStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}
