//! How a grant stands, for people and scripts.

use std::time::SystemTime;

use postrider_plugin::wire::Identity;
use serde::{Deserialize, Serialize};

/// How a grant stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantStatus {
    /// What can be expected of it.
    pub state: GrantState,
    /// Which token of its grant is the newest; 0 where there never was one.
    pub generation: u64,
    /// When the access token expires.
    pub expires_at: Option<SystemTime>,
    /// When the next one is fetched.
    pub next_refresh: Option<SystemTime>,
    /// When this one was.
    pub last_refreshed: Option<SystemTime>,
    /// The refresh token, where there is one.
    pub refresh_token: Option<RefreshTokenStatus>,
    /// Scopes granted, separated by spaces.
    pub scope: Option<String>,
    /// What went wrong since the last success.
    pub last_failure: Option<FailureStatus>,
    /// Who signed in.
    pub identity: Option<Identity>,
}

/// How a refresh token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshTokenStatus {
    /// When it was received, or last used.
    pub issued_at: SystemTime,
    /// When it lapses if it is not used, where that is known.
    pub lapses_at: Option<SystemTime>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureStatus {
    /// When.
    pub at: SystemTime,
    /// What, one line.
    pub message: String,
    /// When it is tried again, where that was decided.
    pub retry_at: Option<SystemTime>,
}

/// What can be expected of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantState {
    /// Nobody signed in, or no token was fetched yet.
    Absent,
    /// The token is good, and nothing needs doing.
    Fresh,
    /// The token is good, and the next one is due.
    Due,
    /// The next token is being fetched by this process.
    Refreshing,
    /// The last attempt failed, or none was made in time; it is tried again.
    Degraded,
    /// A person must sign in; nothing is asked of the provider until then.
    ReauthorizationRequired {
        /// Why.
        reason: Reason,
        /// Why, one line for people.
        message: String,
        /// Since when.
        since: SystemTime,
    },
}

impl GrantState {
    /// A stable name, for scripts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Fresh => "fresh",
            Self::Due => "due",
            Self::Refreshing => "refreshing",
            Self::Degraded => "degraded",
            Self::ReauthorizationRequired { .. } => "reauthorization_required",
        }
    }
}

/// Why a person must sign in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The provider no longer accepts the grant.
    Revoked,
    /// The sign-in has lapsed: unused for too long, or over by policy.
    Expired,
    /// The provider wants to see the person: a second factor, a new device.
    InteractionRequired,
    /// A consent is missing.
    ConsentRequired,
    /// The refresh token that the provider sent last never arrived, and the one before is
    /// no longer accepted.
    LostRotation,
}

impl Reason {
    /// A stable name, for scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::InteractionRequired => "interaction_required",
            Self::ConsentRequired => "consent_required",
            Self::LostRotation => "lost_rotation",
        }
    }
}
