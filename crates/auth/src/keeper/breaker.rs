//! One client that a provider does not know is one trouble, however many grants it has.
//!
//! The first `invalid_client` opens the breaker; then one grant's refresh at growing
//! intervals finds out whether it still holds, and all others fail at once with what the
//! provider said. Whatever succeeds closes it, in this process or in another one.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::lock;
use super::parameters::Parameters;
use crate::error::AuthError;

/// When to ask again while a probe is under way.
const SOON: Duration = Duration::from_secs(1);

/// One client's standing with its provider.
#[derive(Default)]
pub(crate) struct Breaker {
    open: Mutex<Option<Open>>,
}

struct Open {
    error: AuthError,
    /// When the provider said so.
    at: SystemTime,
    interval: Duration,
    probe_at: Instant,
    probing: bool,
}

/// A request that may be made. What comes of it is reported; if nothing is, it tells nothing.
pub(crate) struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    /// Whether a request may be made; always one that a person asks for.
    pub(crate) fn enter(&self, forced: bool) -> Result<Pass<'_>, AuthError> {
        let mut open = lock(&self.open);
        let mut probe = false;
        if let Some(open) = open.as_mut().filter(|_| !forced) {
            if let Some(refusal) = open.refusal() {
                return Err(refusal);
            }
            open.probing = true;
            probe = true;
        }
        Ok(Pass {
            breaker: self,
            probe,
        })
    }

    /// What would be said to whoever wanted to make a request now.
    pub(crate) fn refusal(&self) -> Option<AuthError> {
        lock(&self.open).as_ref()?.refusal()
    }

    /// The provider knows the client.
    pub(crate) fn close(&self) {
        *lock(&self.open) = None;
    }

    /// The provider knew the client at this time, as another process found out.
    pub(crate) fn vouch(&self, at: SystemTime) {
        let mut open = lock(&self.open);
        if open.as_ref().is_some_and(|open| open.at < at) {
            *open = None;
        }
    }

    /// Whether a new one would do as well.
    pub(crate) fn is_idle(&self) -> bool {
        self.refusal().is_none()
    }
}

impl Open {
    fn refusal(&self) -> Option<AuthError> {
        let now = Instant::now();
        (self.probing || now < self.probe_at).then(|| AuthError {
            retry_after: Some(self.probe_at.duration_since(now).max(SOON)),
            ..self.error.clone()
        })
    }
}

impl Pass<'_> {
    /// The provider does not know the client; whether that is news.
    pub(crate) fn refused(
        self,
        error: &AuthError,
        at: SystemTime,
        parameters: &Parameters,
    ) -> bool {
        let mut open = lock(&self.breaker.open);
        let interval = match &*open {
            // Requests that were under way together do not make it grow.
            Some(open) if !self.probe => open.interval,
            Some(open) => (open.interval * 2).min(parameters.breaker_cap),
            None => parameters.breaker,
        };
        let news = open.is_none();
        *open = Some(Open {
            error: error.clone(),
            at,
            interval,
            probe_at: Instant::now() + interval,
            probing: false,
        });
        drop(open);
        news
    }
}

impl Drop for Pass<'_> {
    /// A probe that told nothing makes room for another, after the same interval.
    fn drop(&mut self) {
        if !self.probe {
            return;
        }
        let mut open = lock(&self.breaker.open);
        if let Some(open) = open.as_mut().filter(|open| open.probing) {
            open.probing = false;
            open.probe_at = Instant::now() + open.interval;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::AuthErrorKind;

    fn unknown() -> AuthError {
        AuthError {
            oauth_error: Some("invalid_client".into()),
            ..AuthError::new("ops", AuthErrorKind::Config, "the secret is wrong")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_at_growing_intervals_while_the_others_fail_at_once() {
        let parameters = Parameters::default();
        let breaker = Breaker::default();
        let first = breaker.enter(false).unwrap();
        let second = breaker.enter(false).unwrap();
        let now = SystemTime::UNIX_EPOCH;
        assert!(first.refused(&unknown(), now, &parameters), "news");
        assert!(!second.refused(&unknown(), now, &parameters), "no news");

        for interval in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
            let refusal = breaker.enter(false).err().unwrap();
            assert_eq!(refusal.message, "the secret is wrong");
            assert_eq!(refusal.retry_after, Some(Duration::from_secs(interval)));

            tokio::time::advance(Duration::from_secs(interval)).await;
            let probe = breaker.enter(false).unwrap();
            assert!(breaker.enter(false).is_err(), "one probe at a time");
            assert!(!probe.refused(&unknown(), now, &parameters));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_tells_nothing_is_repeated_and_a_success_ends_it() {
        let breaker = Breaker::default();
        let pass = breaker.enter(false).unwrap();
        pass.refused(&unknown(), SystemTime::UNIX_EPOCH, &Parameters::default());

        tokio::time::advance(Duration::from_mins(1)).await;
        drop(breaker.enter(false).unwrap());
        assert!(breaker.enter(false).is_err());
        assert!(
            breaker.enter(true).is_ok(),
            "who is asked by a person passes"
        );

        tokio::time::advance(Duration::from_mins(1)).await;
        let probe = breaker.enter(false).unwrap();
        breaker.close();
        drop(probe);
        assert!(breaker.enter(false).is_ok());
    }
}
