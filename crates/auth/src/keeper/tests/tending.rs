//! Grants that are looked after though nobody uses them.

use super::super::notice::Expiry;
use super::super::tend::Tended;
use super::serving::Obstinate;
use super::*;

/// A world whose time of day keeps up with tokio's.
async fn run(world: &World, time: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(Duration::from_secs(10));
        world.clock.advance(step);
        tokio::time::sleep(step).await;
        left -= step;
    }
}

fn tended(process: &Process) -> Vec<Tended> {
    vec![Tended {
        grant: Arc::clone(&process.grant),
        source: Arc::clone(&process.source),
    }]
}

async fn tending(process: &Process, world: &World, time: Duration) {
    tokio::select! {
        () = process.keeper.tend_grants(tended(process), Vec::new()) => {}
        () = run(world, time) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_living_token_never_dies() {
    let world = World::new();
    world.signed_in().await;
    let process = world.process();
    tending(&process, &world, Duration::from_hours(24)).await;

    let requests = world.provider.requests();
    assert!((40..=60).contains(&requests), "{requests} in a day");
    assert_eq!(process.state().await, GrantState::Fresh);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_dead_before_waits_for_somebody_to_need_it() {
    let world = World::new();
    world.signed_in().await;
    world.pass(HOUR).await;
    let process = world.process();
    tending(&process, &world, Duration::from_hours(3)).await;
    assert_eq!(world.provider.requests(), 0);

    tokio::join!(tending(&process, &world, Duration::from_hours(3)), async {
        process.token().await.unwrap();
    });
    assert!(
        world.provider.requests() >= 4,
        "from then on it is kept alive"
    );
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_comes_back_finds_everybody_waiting() {
    let world = World::new();
    let process = world.signed_in().await;
    for _ in 0..100 {
        world.provider.fails(AuthErrorKind::Transient);
    }
    tending(&process, &world, Duration::from_hours(12)).await;

    let requests = world.provider.requests();
    assert!(requests > 100, "{requests}");
    assert_eq!(process.state().await, GrantState::Fresh);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_nobody_uses_is_kept_from_lapsing() {
    const DAY: Duration = Duration::from_hours(24);
    let world = World::new();
    world.signed_in().await;
    world.pass(HOUR).await;
    let process = world.process_with(|identity| {
        identity.policy.refresh_token_lifetime = Some(4 * DAY);
    });
    tending(&process, &world, DAY).await;
    assert_eq!(world.provider.requests(), 0);
    tending(&process, &world, DAY).await;
    assert!(world.provider.requests() > 0);
}

#[tokio::test(start_paused = true)]
async fn another_process_s_login_is_noticed() {
    let world = World::new();
    let process = world.process();
    let elsewhere = world.process();
    tokio::join!(tending(&process, &world, Duration::from_hours(5)), async {
        elsewhere
            .grant
            .adopt(world.provider.tokens())
            .await
            .unwrap();
    });
    assert!(world.provider.requests() >= 2);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_succeed_is_not_tried_without_end() {
    let world = World::new();
    let process = world.signed_in().await;
    for _ in 0..1000 {
        let mut local = refusal(AuthErrorKind::Config);
        local.error.oauth_error = None;
        world.provider.next(Reply::Error(local));
    }
    tending(&process, &world, Duration::from_hours(2)).await;
    let requests = world.provider.requests();
    assert!((10..=120).contains(&requests), "{requests}");
}

#[tokio::test(start_paused = true)]
async fn many_grants_are_refreshed_no_faster_than_the_provider_allows() {
    let world = World::new();
    let process = world.process();
    let mut all = Vec::new();
    for n in 0..500_u32 {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        let identity = process.grant.identity.clone();
        let grant = process.keeper.grant(GrantKey(key), identity);
        grant.adopt(world.provider.tokens()).await.unwrap();
        all.push(Tended {
            grant,
            source: Arc::clone(&process.source),
        });
    }
    // All of them are due.
    world.pass(Duration::from_mins(50)).await;
    tokio::select! {
        () = process.keeper.tend_grants(all, Vec::new()) => {}
        () = run(&world, Duration::from_secs(30)) => {}
    }
    let requests = world.provider.requests();
    assert!((280..=310).contains(&requests), "{requests} in 30 s");
}

#[tokio::test(start_paused = true)]
async fn expiries_are_told_while_grants_are_tended() {
    let world = World::new();
    let process = world.process();
    let known = KnownExpiry {
        secret: "client_secret".into(),
        expires_at: world.clock.now() + Duration::from_hours(4 * 24),
        source: "declared",
    };
    let expiries = ["a", "b"].map(|account| Expiry::new(account.into(), &known, "env=OPS"));
    tokio::select! {
        () = process.keeper.tend_grants(Vec::new(), expiries.to_vec()) => {}
        () = run(&world, Duration::from_hours(5 * 24)) => {}
    }
    assert_eq!(world.heard.names(), ["4 days", "3 days", "1 days"]);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_tended_no_more_disturbs_nobody() {
    let world = World::new();
    let process = world.signed_in().await;
    let identity = process.grant.identity.clone();
    let other = process.keeper.grant(GrantKey([8; 32]), identity);
    let mut both = tended(&process);
    both.push(Tended {
        grant: Arc::clone(&other),
        source: Arc::clone(&process.source),
    });
    tokio::select! {
        () = process.keeper.tend_grants(both, Vec::new()) => {}
        () = run(&world, MINUTE) => {}
    }

    tokio::join!(tending(&process, &world, Duration::from_hours(3)), async {
        other.token(&process.source).await.unwrap()
    });
    assert_eq!(process.state().await, GrantState::Fresh);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_read_for_a_while_costs_no_token_that_is_at_hand() {
    let store = Arc::new(Obstinate::default());
    let world = World::with_store(Arc::clone(&store) as Arc<dyn GrantStore>);
    let process = world.signed_in().await;
    store.hide();
    tending(&process, &world, Duration::from_mins(15)).await;
    assert_eq!(process.token().await.as_deref(), Ok("access-1"));
}

#[tokio::test(start_paused = true)]
async fn what_fails_here_is_told_before_the_token_dies_and_once() {
    let world = World::new();
    let process = world.signed_in().await;
    for _ in 0..10 {
        let mut local = refusal(AuthErrorKind::Config);
        local.error.oauth_error = None;
        world.provider.next(Reply::Error(local));
    }
    tending(&process, &world, Duration::from_hours(1)).await;
    assert_eq!(world.heard.names(), ["failed Config", "refreshed 2"]);
}

#[tokio::test(start_paused = true)]
async fn who_only_asks_does_not_fill_the_agenda() {
    let world = World::new();
    let process = world.signed_in().await;
    world.pass(HOUR).await;
    world.provider.fails(AuthErrorKind::InvalidGrant);
    tokio::join!(tending(&process, &world, MINUTE), async {
        for _ in 0..1000 {
            process.token().await.unwrap_err();
            tokio::time::sleep(Duration::from_millis(10)).await;
            world.clock.advance(Duration::from_millis(10));
        }
    });
    let waiting = process.keeper.shared.agenda.len();
    assert!(waiting < 10, "{waiting} entries for one grant");
}
