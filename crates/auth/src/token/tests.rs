//! Which token is served when, and who asks for the next one.

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
    let grant = Arc::new(Grant::default());
    grant.adopt(Obtained {
        refresh: Some(Secret::new("refresh")),
        ..obtained("first", at(0), HOUR)
    });
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
async fn a_client_whose_own_proof_is_refused_may_try_again() {
    let grant = Arc::new(Grant::default());
    let skewed = Err(failing(AuthErrorKind::InvalidGrant));
    assert_eq!(
        get(&grant, 0, skewed).await,
        Err(AuthErrorKind::InvalidGrant)
    );

    let next = Ok(obtained("next", at(1), HOUR));
    assert_eq!(get(&grant, 1, next).await.as_deref(), Ok("next"));
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
