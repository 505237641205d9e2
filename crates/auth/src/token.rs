//! Access tokens, kept in memory by grant, one refresh in flight for each.
//!
//! A grant is what a provider gave one account, or several that are one to the provider
//! ([`GrantKey`]). Whoever needs a token gets the one at hand while it has some life left;
//! otherwise they join the one flight that fetches the next. The flight is a task of its
//! own: it lands even if everybody who waited has gone.
//!
//! Not here: refreshing ahead of need, and keeping refresh tokens beyond this process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::{BoxFuture, FutureExt as _, Shared, ready};
use postrider_plugin::wire::Secret;
use secrecy::SecretString;

use crate::error::{AuthError, AuthErrorKind};

/// A token is not begun to be used with less life than this, or 5 % of its lifetime: it
/// must outlast the commands up to `AUTH`.
const USE_FLOOR: Duration = Duration::from_mins(1);

/// After a server refused a token, the next refusal is not heeded for so long: if the new
/// token is refused too, tokens are not what is wrong, and the provider is left in peace.
const FORCE_INTERVAL: Duration = Duration::from_mins(1);

/// The longest wait a provider's `Retry-After` is believed.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// An access token and what is known of it.
#[derive(Clone)]
pub struct AccessToken {
    value: SecretString,
    issued_at: SystemTime,
    expires_at: SystemTime,
    scope: Option<String>,
    generation: u64,
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

    /// Which token of its grant this is; grows with each, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn is_fit(&self, now: SystemTime) -> bool {
        let lifetime = self.expires_at.duration_since(self.issued_at);
        let floor = USE_FLOOR.min(lifetime.unwrap_or_default() / 20);
        now + floor < self.expires_at
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
pub(crate) struct Obtained {
    pub(crate) access: SecretString,
    pub(crate) refresh: Option<Secret>,
    pub(crate) scope: Option<String>,
    pub(crate) requested_at: SystemTime,
    pub(crate) lifetime: Duration,
}

/// The tokens of this process. Clones are the same store.
#[derive(Clone, Default)]
pub struct TokenStore {
    grants: Arc<Mutex<HashMap<GrantKey, Arc<Grant>>>>,
}

impl TokenStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn grant(&self, key: GrantKey) -> Arc<Grant> {
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(grants.entry(key).or_default())
    }
}

impl fmt::Debug for TokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStore").finish_non_exhaustive()
    }
}

/// What makes two accounts' grants the same: a digest of all that the provider or the
/// plugin could tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct GrantKey(pub(crate) [u8; 32]);

type Flight = Shared<BoxFuture<'static, Result<AccessToken, AuthError>>>;

/// One grant's tokens.
#[derive(Default)]
pub(crate) struct Grant {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<AccessToken>,
    /// Refused by a server: no longer served, not even when the provider is away.
    spoilt: bool,
    refresh: Option<Secret>,
    generation: u64,
    flight: Option<Flight>,
    /// The grant is void: nothing is asked of the provider until somebody signs in.
    void: Option<AuthError>,
    /// The provider asked not to be asked again before then.
    pause: Option<(SystemTime, AuthError)>,
    forced_at: Option<SystemTime>,
}

impl State {
    fn fit(&self, now: SystemTime) -> Option<AccessToken> {
        let current = self.current.as_ref().filter(|_| !self.spoilt);
        current.filter(|token| token.is_fit(now)).cloned()
    }

    /// What the provider said last, if it is not to be asked again yet.
    fn paused(&self, now: SystemTime) -> Option<AuthError> {
        let (until, error) = self.pause.as_ref()?;
        let left = until
            .duration_since(now)
            .ok()
            .filter(|left| !left.is_zero());
        left.map(|left| AuthError {
            retry_after: Some(left),
            ..error.clone()
        })
    }

    fn publish(&mut self, obtained: Obtained) -> AccessToken {
        self.generation += 1;
        self.refresh = obtained.refresh;
        let token = AccessToken {
            value: obtained.access,
            issued_at: obtained.requested_at,
            expires_at: obtained.requested_at + obtained.lifetime,
            scope: obtained.scope,
            generation: self.generation,
        };
        self.current = Some(token.clone());
        self.spoilt = false;
        self.void = None;
        self.pause = None;
        token
    }
}

impl Grant {
    /// A token fit for use, from `obtain` if there is none; `now` tells the time.
    pub(crate) async fn token<F>(
        self: &Arc<Self>,
        now: impl Fn() -> SystemTime + Clone + Send + 'static,
        obtain: impl FnOnce(Option<Secret>) -> F,
    ) -> Result<AccessToken, AuthError>
    where
        F: Future<Output = Result<Obtained, AuthError>> + Send + 'static,
    {
        let flight = {
            let mut state = self.lock();
            if let Some(token) = state.fit(now()) {
                return Ok(token);
            }
            if let Some(error) = &state.void {
                return Err(error.clone());
            }
            if let Some(flight) = &state.flight {
                flight.clone()
            } else if let Some(error) = state.paused(now()) {
                ready(Err(error)).boxed().shared()
            } else {
                let flight = self.depart(&state, now.clone(), obtain);
                state.flight.insert(flight).clone()
            }
        };
        match flight.await {
            Err(error) if error.kind.is_transient() => {
                let state = self.lock();
                let current = state.current.as_ref().filter(|_| !state.spoilt);
                let alive = current.filter(|token| now() < token.expires_at);
                alive.cloned().ok_or(error)
            }
            landed => landed,
        }
    }

    /// The flight: a task of its own from when it is first polled, which is after the lock
    /// on `state` is gone.
    fn depart<F>(
        self: &Arc<Self>,
        state: &State,
        now: impl Fn() -> SystemTime + Send + 'static,
        obtain: impl FnOnce(Option<Secret>) -> F,
    ) -> Flight
    where
        F: Future<Output = Result<Obtained, AuthError>> + Send + 'static,
    {
        let departed = Departed {
            generation: state.generation,
            with_refresh_token: state.refresh.is_some(),
        };
        let obtaining = obtain(state.refresh.clone());
        let landing = Landing(Arc::clone(self));
        async move {
            let task = tokio::spawn(async move {
                let result = obtaining.await;
                landing.0.arrive(departed, now, result)
            });
            task.await.unwrap_or_else(|_| {
                let stopped = "the refresh was stopped";
                Err(AuthError::new("", AuthErrorKind::Transient, stopped))
            })
        }
        .boxed()
        .shared()
    }

    fn arrive(
        &self,
        departed: Departed,
        now: impl Fn() -> SystemTime,
        result: Result<Obtained, AuthError>,
    ) -> Result<AccessToken, AuthError> {
        let mut state = self.lock();
        if state.generation != departed.generation
            && let Some(current) = &state.current
        {
            // Somebody signed in meanwhile; what they brought is newer.
            return Ok(current.clone());
        }
        match result {
            Ok(mut obtained) => {
                // RFC 6749 §6: without a new refresh token the old one stays.
                obtained.refresh = obtained.refresh.or_else(|| state.refresh.take());
                Ok(state.publish(obtained))
            }
            Err(error) => {
                // Without a refresh token it is the client's own proof that was refused, which
                // nobody can renew by signing in.
                if error.kind == AuthErrorKind::InvalidGrant && departed.with_refresh_token {
                    state.void = Some(error.clone());
                }
                if error.kind.is_transient() {
                    let pause = error.retry_after.map(|pause| pause.min(LONGEST_PAUSE));
                    state.pause = pause.map(|pause| (now() + pause, error.clone()));
                }
                Err(error)
            }
        }
    }

    /// Takes in what a login brought, in place of everything from before: that may be
    /// another person's.
    pub(crate) fn adopt(&self, obtained: Obtained) -> AccessToken {
        self.lock().publish(obtained)
    }

    /// Stops serving the token of `generation`, which a server refused.
    pub(crate) fn invalidate(&self, generation: u64, now: SystemTime) {
        let mut state = self.lock();
        let recently =
            |at: SystemTime| now.duration_since(at).is_ok_and(|age| age < FORCE_INTERVAL);
        if state.generation == generation && !state.spoilt && !state.forced_at.is_some_and(recently)
        {
            state.spoilt = true;
            state.forced_at = Some(now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a flight knew when it left.
#[derive(Clone, Copy)]
struct Departed {
    generation: u64,
    with_refresh_token: bool,
}

/// Makes room for the next flight when this one is over, however it ended.
struct Landing(Arc<Grant>);

impl Drop for Landing {
    fn drop(&mut self) {
        let flight = self.0.lock().flight.take();
        drop(flight);
    }
}

#[cfg(test)]
mod tests;
