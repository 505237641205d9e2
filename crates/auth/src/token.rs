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
        let generation = state.generation;
        let obtaining = obtain(state.refresh.clone());
        let landing = Landing(Arc::clone(self));
        async move {
            let task = tokio::spawn(async move {
                let result = obtaining.await;
                landing.0.arrive(generation, now, result)
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
        departed: u64,
        now: impl Fn() -> SystemTime,
        result: Result<Obtained, AuthError>,
    ) -> Result<AccessToken, AuthError> {
        let mut state = self.lock();
        if state.generation != departed
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
                if error.kind == AuthErrorKind::InvalidGrant {
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

/// Makes room for the next flight when this one is over, however it ended.
struct Landing(Arc<Grant>);

impl Drop for Landing {
    fn drop(&mut self) {
        let flight = self.0.lock().flight.take();
        drop(flight);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::UNIX_EPOCH;

    use futures_util::future::join_all;
    use secrecy::ExposeSecret as _;
    use tokio::sync::oneshot;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn obtained(access: &str, requested_at: SystemTime, lifetime: Duration) -> Obtained {
        Obtained {
            access: SecretString::from(access),
            refresh: None,
            scope: None,
            requested_at,
            lifetime,
        }
    }

    fn failing(kind: AuthErrorKind) -> AuthError {
        AuthError::new("ops", kind, "no")
    }

    /// A grant whose token `first` was asked for at 0 and lives an hour.
    fn held() -> Arc<Grant> {
        let grant = Arc::new(Grant::default());
        grant.adopt(obtained("first", at(0), HOUR));
        grant
    }

    async fn get(
        grant: &Arc<Grant>,
        now: u64,
        outcome: Result<Obtained, AuthError>,
    ) -> Result<String, AuthErrorKind> {
        grant
            .token(move || at(now), |_| ready(outcome))
            .await
            .map(|token| token.value().expose_secret().to_owned())
            .map_err(|error| error.kind)
    }

    #[tokio::test]
    async fn a_token_is_served_down_to_its_floor_and_no_further() {
        let grant = held();
        let next = || Ok(obtained("next", at(3600), HOUR));

        assert_eq!(get(&grant, 3539, next()).await.as_deref(), Ok("first"));
        assert_eq!(get(&grant, 3540, next()).await.as_deref(), Ok("next"));
    }

    #[test]
    fn the_floor_of_a_short_token_is_a_twentieth() {
        let grant = Grant::default();
        let token = grant.adopt(obtained("short", at(0), Duration::from_secs(100)));
        assert!(token.is_fit(at(94)) && !token.is_fit(at(95)));

        let dead = grant.adopt(obtained("dead", at(0), Duration::ZERO));
        assert!(!dead.is_fit(at(0)));
    }

    #[tokio::test]
    async fn everybody_who_waits_gets_the_one_flights_token() {
        let grant = Arc::new(Grant::default());
        let (land, landed) = oneshot::channel::<()>();
        let landed = landed.shared();
        let flights = AtomicUsize::new(0);

        let callers = (0..100).map(|_| {
            grant.token(
                || at(0),
                |_| {
                    flights.fetch_add(1, Ordering::Relaxed);
                    landed.clone().map(|_| Ok(obtained("one", at(0), HOUR)))
                },
            )
        });
        let (tokens, ()) = tokio::join!(join_all(callers), async {
            tokio::task::yield_now().await;
            land.send(()).unwrap();
        });

        assert_eq!(flights.into_inner(), 1);
        assert!(tokens.iter().all(|token| {
            let token = token.as_ref().unwrap();
            token.generation() == 1 && token.value().expose_secret() == "one"
        }));
    }

    #[tokio::test]
    async fn a_flight_lands_even_if_everybody_who_waited_has_gone() {
        let grant = Arc::new(Grant::default());
        let (land, landed) = oneshot::channel::<()>();
        let caller = tokio::spawn({
            let grant = Arc::clone(&grant);
            async move {
                let flight = |_| landed.map(|_| Ok(obtained("kept", at(0), HOUR)));
                grant.token(|| at(0), flight).await
            }
        });
        while grant.lock().flight.is_none() {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;

        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        land.send(()).unwrap();
        while grant.lock().current.is_none() {
            tokio::task::yield_now().await;
        }

        let error = Err(failing(AuthErrorKind::Internal));
        assert_eq!(get(&grant, 1, error).await.as_deref(), Ok("kept"));
    }

    #[tokio::test]
    async fn while_the_provider_is_away_the_old_token_is_served_until_it_expires() {
        let grant = held();
        let away = || Err(failing(AuthErrorKind::Transient));

        assert_eq!(get(&grant, 3599, away()).await.as_deref(), Ok("first"));
        assert_eq!(
            get(&grant, 3600, away()).await,
            Err(AuthErrorKind::Transient)
        );
    }

    #[tokio::test]
    async fn a_provider_that_asks_for_patience_is_not_asked_again_before() {
        let grant = Arc::new(Grant::default());
        let busy = Err(AuthError {
            retry_after: Some(Duration::from_secs(30)),
            ..failing(AuthErrorKind::Transient)
        });
        assert_eq!(get(&grant, 100, busy).await, Err(AuthErrorKind::Transient));

        let paused = grant
            .token(|| at(129), |_| async { unreachable!("no flight departs") })
            .await;
        assert_eq!(
            paused.unwrap_err().retry_after,
            Some(Duration::from_secs(1))
        );

        let next = Ok(obtained("next", at(130), HOUR));
        assert_eq!(get(&grant, 130, next).await.as_deref(), Ok("next"));
    }

    #[tokio::test]
    async fn a_failure_that_is_not_transient_is_told_even_if_the_old_token_lives() {
        let grant = held();
        let error = Err(failing(AuthErrorKind::Denied));
        assert_eq!(get(&grant, 3590, error).await, Err(AuthErrorKind::Denied));
    }

    #[tokio::test]
    async fn a_void_grant_asks_nothing_until_somebody_signs_in() {
        let grant = held();
        let void = Err(failing(AuthErrorKind::InvalidGrant));
        assert_eq!(
            get(&grant, 4000, void).await,
            Err(AuthErrorKind::InvalidGrant)
        );

        let asked = grant
            .token(|| at(4001), |_| async { unreachable!("no flight departs") })
            .await;
        assert_eq!(asked.unwrap_err().kind, AuthErrorKind::InvalidGrant);

        grant.adopt(obtained("signed in", at(4002), HOUR));
        let error = Err(failing(AuthErrorKind::Internal));
        assert_eq!(get(&grant, 4003, error).await.as_deref(), Ok("signed in"));
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_once_a_minute_and_only_if_it_is_the_current_one() {
        let grant = held();
        let next = |name: &str, now| Ok(obtained(name, at(now), HOUR));

        grant.invalidate(0, at(10));
        assert_eq!(
            get(&grant, 10, next("second", 10)).await.as_deref(),
            Ok("first")
        );
        grant.invalidate(1, at(10));
        assert_eq!(
            get(&grant, 10, next("second", 10)).await.as_deref(),
            Ok("second")
        );
        grant.invalidate(1, at(100));
        assert_eq!(
            get(&grant, 100, next("third", 100)).await.as_deref(),
            Ok("second")
        );
        grant.invalidate(2, at(69));
        assert_eq!(
            get(&grant, 69, next("third", 69)).await.as_deref(),
            Ok("second")
        );
        grant.invalidate(2, at(70));
        assert_eq!(
            get(&grant, 70, next("third", 70)).await.as_deref(),
            Ok("third")
        );
    }

    #[tokio::test]
    async fn a_refused_token_is_not_served_again_while_the_provider_is_away() {
        let grant = held();
        grant.invalidate(1, at(10));
        let away = Err(failing(AuthErrorKind::Transient));
        assert_eq!(get(&grant, 10, away).await, Err(AuthErrorKind::Transient));
    }

    #[tokio::test]
    async fn the_refresh_token_stays_until_a_new_one_comes() {
        let grant = Arc::new(Grant::default());
        let with = |refresh: Option<&str>| Obtained {
            refresh: refresh.map(Secret::new),
            ..obtained("t", at(0), Duration::ZERO)
        };
        for (brought, had) in [
            (Some("r1"), None),
            (None, Some("r1")),
            (Some("r2"), Some("r1")),
            (None, Some("r2")),
        ] {
            let flight = |refresh: Option<Secret>| {
                assert_eq!(refresh.as_ref().map(Secret::expose), had);
                ready(Ok(with(brought)))
            };
            grant.token(|| at(0), flight).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_login_that_brings_no_refresh_token_leaves_none_of_whoever_signed_in_before() {
        let grant = Arc::new(Grant::default());
        grant.adopt(Obtained {
            refresh: Some(Secret::new("of another person")),
            ..obtained("first", at(0), HOUR)
        });
        grant.adopt(obtained("second", at(0), Duration::ZERO));

        let flight = |refresh: Option<Secret>| {
            assert_eq!(refresh, None);
            ready(Ok(obtained("third", at(0), HOUR)))
        };
        grant.token(|| at(0), flight).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_login_brought_is_not_overwritten_by_an_older_flight() {
        let grant = Arc::new(Grant::default());
        let (land, landed) = oneshot::channel::<()>();
        let flight = |_| landed.map(|_| Err(failing(AuthErrorKind::InvalidGrant)));

        let (token, ()) = tokio::join!(grant.token(|| at(0), flight), async {
            tokio::task::yield_now().await;
            grant.adopt(obtained("signed in", at(0), HOUR));
            land.send(()).unwrap();
        });

        assert_eq!(token.unwrap().value().expose_secret(), "signed in");
        let error = Err(failing(AuthErrorKind::Internal));
        assert_eq!(get(&grant, 1, error).await.as_deref(), Ok("signed in"));
    }

    #[tokio::test]
    async fn a_flight_that_panics_fails_its_callers_and_not_the_next() {
        let grant = Arc::new(Grant::default());
        let crash = |_| async { panic!("a bug") };
        let error = grant.token(|| at(0), crash).await.unwrap_err();
        assert_eq!(error.kind, AuthErrorKind::Transient);

        let next = Ok(obtained("next", at(0), HOUR));
        assert_eq!(get(&grant, 0, next).await.as_deref(), Ok("next"));
    }

    #[test]
    fn a_flight_without_a_runtime_left_does_not_block() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let grant = Arc::new(Grant::default());
        let waiting = Arc::clone(&grant);
        runtime.spawn(async move {
            waiting
                .token(|| at(0), |_| futures_util::future::pending())
                .await
        });
        runtime.block_on(tokio::task::yield_now());
        drop(runtime);

        assert!(grant.lock().flight.is_none());
    }
}
