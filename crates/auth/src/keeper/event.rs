//! What somebody may want to hear of.

use std::time::SystemTime;

use futures_util::future::{BoxFuture, FutureExt as _, ready};

use super::status::Reason;
use crate::error::{AuthError, AuthErrorKind};

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A grant has a new access token.
    TokenRefreshed {
        /// An account that uses the grant.
        account: String,
        /// Which token of its grant it is.
        generation: u64,
        /// When it expires.
        expires_at: SystemTime,
        /// When the next one will be fetched.
        next_refresh: SystemTime,
    },
    /// A token was not refreshed. Told when it begins, and when the kind of failure changes.
    TokenRefreshFailed {
        /// An account that uses the grant.
        account: String,
        /// Why.
        error: AuthError,
        /// When it is tried again; none where something must change first.
        retry_at: Option<SystemTime>,
        /// How long the token at hand can still be used, if there is one.
        usable_until: Option<SystemTime>,
    },
    /// A person must sign in again. Told until somebody hears it, then never again.
    ReauthorizationRequired {
        /// An account that uses the grant.
        account: String,
        /// Why.
        reason: Reason,
        /// Why, one line for people.
        message: String,
        /// Since when.
        since: SystemTime,
    },
    /// A secret setting comes to its end. Each threshold is told until somebody hears it.
    SecretExpiring {
        /// An account that uses the secret.
        account: String,
        /// The setting.
        secret: String,
        /// When it expires.
        expires_at: SystemTime,
        /// [`days_left`](super::days_left) when it was told.
        days: i64,
    },
}

/// Where events go.
pub trait EventSink: Send + Sync {
    /// Tells of `event`; whether somebody heard it.
    fn emit<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, bool>;

    /// A provider was asked for a token, and this came of it. Every attempt is told: this is for
    /// who counts.
    fn attempted(&self, _outcome: Result<(), AuthErrorKind>) {}
}

/// Nobody listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn emit<'a>(&'a self, _event: &'a Event) -> BoxFuture<'a, bool> {
        ready(false).boxed()
    }
}
