//! What follows from a refresh that failed: who is to wait, for how long, and whether only a
//! person can help.

use std::time::Duration;

use tokio::time::Instant;

use super::event::Event;
use super::flight::Flight;
use super::grant::{State, Trouble};
use super::mutation::mutated;
use super::record::{Failed, Intent, Record, Retired, Why};
use super::schedule::{backoff, lapses_at};
use super::status::Reason;
use super::store::StoreError;
use super::token::NotObtained;
use crate::error::{AuthError, AuthErrorKind};

/// How long the store is left in peace after it failed.
const STORE_PAUSE: Duration = Duration::from_secs(5);

impl Flight<'_> {
    /// Draws the consequence of a failure: the error for those who wait.
    pub(super) async fn fail(
        &self,
        mut record: Record,
        failed: NotObtained,
        found: Option<&Intent>,
        news: bool,
    ) -> AuthError {
        let NotObtained { mut error, unheard } = failed;
        // No time at all is no request for patience: our own grows.
        error.retry_after = error.retry_after.filter(|asked| !asked.is_zero());
        if let Some(reason) = self.reason(&record, &error, found) {
            return self.retire(record, reason, error).await;
        }
        if !unheard && found.is_none() {
            record.intent = None;
        }
        if is_local(&error) && !unheard {
            // Nothing was asked of anybody: it may be tried again at any moment.
            if record.refresh.is_some() {
                self.write_down(&record).await;
            }
            // That nobody has signed in is a state, and no failure.
            if error.kind != AuthErrorKind::NeedsUser {
                let before = self.before(&record);
                let attempts = before.map_or(0, |(attempts, _)| attempts) + 1;
                self.trouble(&mut self.grant.lock(), &error, attempts, Duration::ZERO);
                if before.is_none_or(|(_, kind)| kind != error.kind) {
                    self.tell_failed(&record, &error, None);
                }
            }
            self.publish(&record);
            return error;
        }
        let shared = matches!(
            error.kind,
            AuthErrorKind::Transient | AuthErrorKind::Protocol
        );
        let before = self.before(&record);
        let attempts = before.map_or(0, |(attempts, _)| attempts) + 1;
        let kept = self.failed(&record, &error, attempts, shared);
        let wait = self.wait(&record, &error, attempts);
        if shared {
            error.retry_after = error.retry_after.or(Some(wait));
        }
        record.failure = Some(kept);
        let written = self.write_down(&record).await;
        {
            let mut state = self.grant.lock();
            if shared && written {
                state.trouble = None;
            } else {
                self.trouble(&mut state, &error, attempts, wait);
            }
        }
        self.publish(&record);
        if news && before.is_none_or(|(_, kind)| kind != error.kind) {
            self.tell_failed(&record, &error, Some(wait));
        }
        error
    }

    /// Whether, and why, only a person can help.
    fn reason(&self, record: &Record, error: &AuthError, found: Option<&Intent>) -> Option<Reason> {
        let policy = self.grant.identity.policy;
        let now = self.now();
        let says = |text: &str| {
            let description = error.oauth_description.as_deref();
            error.message.contains(text) || description.is_some_and(|told| told.contains(text))
        };
        let code = |code: &str| {
            [&error.oauth_error, &error.oauth_suberror]
                .into_iter()
                .any(|field| field.as_deref() == Some(code))
        };
        match (&record.refresh, error.kind) {
            _ if mutated!(TriesForEver) && found.is_some() => None,
            (Some(_), AuthErrorKind::Protocol) if mutated!(TakesNonsenseForNo) => {
                Some(Reason::Revoked)
            }
            (Some(refresh), AuthErrorKind::InvalidGrant) => {
                let lapsed = lapses_at(refresh, policy).is_some_and(|at| at <= now);
                // Microsoft's numbers for a sign-in that is over: unused for too long, or by
                // policy. They are what its prose begins with.
                let over = [
                    "AADSTS70008:",
                    "AADSTS700082",
                    "AADSTS700084",
                    "AADSTS70043",
                ];
                let lost = |intent: &Intent| !policy.reuse_grace.permits(intent.at, now);
                Some(
                    if lapsed || code("token_expired") || over.into_iter().any(says) {
                        Reason::Expired
                    } else if found.is_some_and(lost) {
                        Reason::LostRotation
                    } else {
                        Reason::Revoked
                    },
                )
            }
            (Some(_), AuthErrorKind::NeedsUser) if error.oauth_error.is_some() => {
                Some(if code("consent_required") || says("AADSTS65001") {
                    Reason::ConsentRequired
                } else {
                    Reason::InteractionRequired
                })
            }
            // The sign-in brought no refresh token, and what it brought is over.
            (None, AuthErrorKind::NeedsUser) if record.access.is_some() => Some(Reason::Expired),
            _ => None,
        }
    }

    async fn retire(&self, mut record: Record, reason: Reason, error: AuthError) -> AuthError {
        let error = match reason {
            Reason::LostRotation => AuthError {
                message: format!(
                    "a refresh was cut short, and the provider no longer accepts the refresh token from before it ({})",
                    error.message
                ),
                // Which would be read as a revocation.
                oauth_error: None,
                oauth_suberror: None,
                oauth_description: None,
                ..error
            },
            _ => error,
        };
        tracing::warn!(
            account = &*self.grant.identity.account,
            reason = reason.name(),
            "somebody must sign in again: {}",
            error.message
        );
        record.retired = Some(Retired {
            reason,
            since: self.now(),
            told: false,
            why: Why::new(&error),
        });
        record.intent = None;
        record.failure = None;
        self.write_at_last(&record).await;
        self.grant.lock().trouble = None;
        self.publish(&record);
        self.grant.announce();
        error
    }

    /// What is written down of a failure; `shared`: whether other processes heed it.
    pub(super) fn failed(
        &self,
        record: &Record,
        error: &AuthError,
        attempts: u32,
        shared: bool,
    ) -> Failed {
        let now = self.now();
        let wait = self.wait(record, error, attempts);
        Failed {
            at: now,
            attempts,
            retry_at: shared.then(|| now.checked_add(wait)).flatten(),
            asked: error.retry_after.is_some(),
            why: Why::new(error),
        }
    }

    /// How long to leave the provider in peace.
    fn wait(&self, record: &Record, error: &AuthError, attempts: u32) -> Duration {
        let parameters = &self.grant.shared.parameters;
        match error.retry_after {
            Some(asked) => asked.clamp(Duration::from_secs(1), parameters.retry_after_cap),
            None => backoff(&self.grant.key, record.generation, attempts, parameters),
        }
    }

    /// How many failures there were since the last success, and of which kind the last was.
    pub(super) fn before(&self, record: &Record) -> Option<(u32, AuthErrorKind)> {
        let here = |trouble: &Trouble| (trouble.attempts, trouble.error.kind);
        let kept = |failed: &Failed| (failed.attempts, failed.why.error("", None).kind);
        let state = self.grant.lock();
        let here = state.trouble.as_deref().map(here);
        here.or(record.failure.as_ref().map(kept))
    }

    /// The store did not take, or give, what it should: nothing is asked of the provider.
    pub(super) fn unwritable(&self, record: &Record, error: &StoreError) -> AuthError {
        let error = self.grant.store_failed(error);
        let before = self.before(record);
        let attempts = before.map_or(0, |(attempts, _)| attempts) + 1;
        self.trouble(&mut self.grant.lock(), &error, attempts, STORE_PAUSE);
        if before.is_none_or(|(_, kind)| kind != error.kind) {
            self.tell_failed(record, &error, Some(STORE_PAUSE));
        }
        error
    }

    /// Remembers a failure that is only this process's business.
    fn trouble(&self, state: &mut State, error: &AuthError, attempts: u32, wait: Duration) {
        state.trouble = Some(Box::new(Trouble {
            at: self.now(),
            error: error.clone(),
            attempts,
            until: Instant::now() + wait,
        }));
        self.grant.plan(state);
    }

    /// Writes what may be lost; whether that succeeded.
    async fn write_down(&self, record: &Record) -> bool {
        let written = self.grant.save(record).await;
        if let Err(error) = &written {
            tracing::warn!(
                account = &*self.grant.identity.account,
                "a failed refresh was not written down: {error}"
            );
        }
        written.is_ok()
    }

    pub(super) fn tell_failed(&self, record: &Record, error: &AuthError, wait: Option<Duration>) {
        let now = self.now();
        let outlook = self.grant.outlook(record);
        let usable = outlook.fitness(now).is_fit();
        let usable_until = outlook.life.map(|life| life.floor).filter(|_| usable);
        let account = &*self.grant.identity.account;
        tracing::warn!(
            account,
            usable_for_seconds = usable_until
                .and_then(|until| until.duration_since(now).ok())
                .map(|left| left.as_secs()),
            "access token not refreshed: {}",
            error.message
        );
        self.grant.emit(Event::TokenRefreshFailed {
            account: account.to_owned(),
            error: error.clone(),
            retry_at: wait.and_then(|wait| now.checked_add(wait)),
            usable_until,
        });
    }
}

/// Whether nobody outside has said so: a setting is missing, nobody has signed in, the plugin
/// itself fails.
fn is_local(error: &AuthError) -> bool {
    error.oauth_error.is_none()
        && matches!(
            error.kind,
            AuthErrorKind::Config
                | AuthErrorKind::NeedsUser
                | AuthErrorKind::Unsupported
                | AuthErrorKind::Internal
                | AuthErrorKind::Unresponsive
        )
}
