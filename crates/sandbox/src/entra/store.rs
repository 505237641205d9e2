//! What Entra ID remembers between requests: codes, refresh tokens, device codes, sign-ins
//! under way, browsers' sessions, and identifiers of assertions it has seen.
//!
//! What has expired is dropped once nothing can ask for it. Refresh tokens stay as long as
//! the sandbox: an old one must be told from one that never was.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use crate::scenario::Guid;

use super::client::Public;
use super::redirect::Redirect;

/// What a person has agreed to: one user, one client, bound to no service.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// All tokens that came of one sign-in share it.
    pub(crate) family: String,
    pub(crate) user: Guid,
    pub(crate) tenant: Guid,
    pub(crate) client: Guid,
    /// The user took a second step.
    pub(crate) mfa: bool,
    /// Came through a single-page app's redirect.
    pub(crate) spa: bool,
    /// Came through a desktop app's redirect.
    pub(crate) public: bool,
    /// When the user signed in.
    pub(crate) began: Timestamp,
}

impl Grant {
    /// Whether whoever redeems what came of it may come without a proof.
    pub(crate) fn may_be_public(&self) -> Public {
        match (self.spa, self.public) {
            (true, _) => Public::May,
            (false, true) => Public::Must,
            (false, false) => Public::No,
        }
    }
}

/// An authorization code.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) grant: Grant,
    pub(crate) scope: String,
    pub(crate) redirect: Redirect,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) nonce: Option<String>,
    pub(crate) expires: Timestamp,
    pub(crate) redeemed: bool,
}

/// A proof key's challenge (RFC 7636).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) s256: bool,
    pub(crate) value: String,
}

/// A refresh token.
#[derive(Clone, Debug)]
pub(crate) struct Refresh {
    pub(crate) grant: Grant,
    pub(crate) scope: String,
    pub(crate) public_client: bool,
    pub(crate) issued: Timestamp,
    /// When it was last used: inactivity counts from here.
    pub(crate) used: Timestamp,
    /// When a newer one took its place.
    pub(crate) superseded: Option<Timestamp>,
    pub(crate) revoked: bool,
}

/// A device waiting for its person.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) user_code: String,
    pub(crate) client: Guid,
    pub(crate) scope: String,
    pub(crate) tenant: String,
    pub(crate) expires: Timestamp,
    pub(crate) answer: DeviceAnswer,
}

/// What the person at the device's page did.
#[derive(Clone, Debug)]
pub(crate) enum DeviceAnswer {
    Pending,
    Declined,
    Blocked(super::aadsts::Aadsts),
    Approved(Grant),
    Redeemed,
}

/// A sign-in under way in one browser.
#[derive(Clone, Debug)]
pub(crate) struct SignIn {
    pub(crate) purpose: Purpose,
    /// The browser it began in; no other may go on with it.
    pub(crate) browser: String,
    pub(crate) user: Option<Guid>,
    pub(crate) mfa: bool,
    pub(crate) expires: Timestamp,
}

/// A user signed in to a browser.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    pub(crate) user: Guid,
    pub(crate) mfa: bool,
}

/// What a sign-in is for.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    Authorize(Box<AuthorizeRequest>),
    Device { device_code: String },
    AdminConsent(Box<AuthorizeRequest>),
}

/// A checked authorization request.
#[derive(Clone, Debug)]
pub(crate) struct AuthorizeRequest {
    /// The path's tenant, as written.
    pub(crate) tenant: String,
    pub(crate) client: Guid,
    pub(crate) redirect: Redirect,
    pub(crate) mode: ResponseMode,
    pub(crate) state: Option<String>,
    pub(crate) scope: String,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) nonce: Option<String>,
    pub(crate) login_hint: Option<String>,
    pub(crate) prompt: Prompt,
}

/// How the answer reaches the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseMode {
    Query,
    Fragment,
    FormPost,
}

/// What a client wants the person to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// Only what is needed.
    Needed,
    Login,
    Consent,
    SelectAccount,
    None,
}

/// An access token that was issued, to be found again for revocation.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) uti: String,
    pub(crate) subject: String,
    pub(crate) client: String,
    pub(crate) expires: Timestamp,
}

/// All of it.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) codes: HashMap<String, Code>,
    pub(crate) refresh: HashMap<String, Refresh>,
    pub(crate) devices: HashMap<String, Device>,
    pub(crate) sign_ins: HashMap<String, SignIn>,
    /// Users signed in, by browser.
    pub(crate) sessions: HashMap<String, Vec<SignedIn>>,
    /// Assertions seen: client and `jti`, until they expire.
    pub(crate) assertions: HashMap<(Guid, String), Timestamp>,
    pub(crate) issued: Vec<Issued>,
}

/// Expired things are still told apart from unknown ones for this long.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

/// Browsers whose sessions are kept.
const BROWSERS: usize = 1_000;

impl Store {
    /// Forgets what expired long ago.
    pub(crate) fn tidy(&mut self, now: Timestamp) {
        let gone = |expires: Timestamp| {
            expires
                .saturating_add(REMEMBERED)
                .is_ok_and(|end| end < now)
        };
        self.codes.retain(|_, c| !gone(c.expires));
        self.devices.retain(|_, d| !gone(d.expires));
        self.sign_ins.retain(|_, s| s.expires > now);
        self.assertions.retain(|_, expires| *expires > now);
        self.issued.retain(|i| i.expires > now);
        if self.sessions.len() > BROWSERS {
            self.sessions.clear();
        }
    }

    /// Revokes every refresh token of one sign-in.
    pub(crate) fn revoke_family(&mut self, family: &str) {
        for token in self
            .refresh
            .values_mut()
            .filter(|r| r.grant.family == family)
        {
            token.revoked = true;
        }
    }

    /// Revokes the refresh tokens this picks out; how many.
    pub(crate) fn revoke(&mut self, which: impl Fn(&Refresh) -> bool) -> usize {
        let mut revoked = 0;
        for token in self.refresh.values_mut().filter(|r| !r.revoked && which(r)) {
            token.revoked = true;
            revoked += 1;
        }
        revoked
    }

    /// The device a person's code belongs to: its device code.
    pub(crate) fn device_for(&self, user_code: &str) -> Option<String> {
        let typed: String = user_code
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        self.devices
            .iter()
            .find(|(_, d)| d.user_code.eq_ignore_ascii_case(&typed))
            .map(|(code, _)| code.clone())
    }
}
