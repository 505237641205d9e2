//! What is told, how often, and to whom.

use super::super::notice::Expiry;
use super::*;

#[tokio::test(start_paused = true)]
async fn a_refresh_and_the_beginning_of_a_failure_are_told() {
    let world = World::new();
    let process = world.signed_in().await;
    world.pass(Duration::from_secs(2500)).await;
    for _ in 0..3 {
        world.provider.fails(AuthErrorKind::Transient);
    }
    world.provider.fails(AuthErrorKind::Protocol);
    for _ in 0..4 {
        process.token().await.unwrap();
        process.settle().await;
        world.pass(Duration::from_secs(41)).await;
    }
    process.token().await.unwrap();
    process.settle().await;

    let told = ["failed Transient", "failed Protocol", "refreshed 2"];
    assert_eq!(world.heard.names(), told);
    // For who counts, each attempt is one.
    let attempts = ["transient", "transient", "transient", "protocol", "ok"];
    assert_eq!(*lock(&world.heard.attempts), attempts);
}

#[tokio::test(start_paused = true)]
async fn that_somebody_must_sign_in_is_told_until_somebody_hears_it_and_then_never_again() {
    let world = World::new();
    let process = world.signed_in().await;
    world.heard.deaf.store(true, Ordering::SeqCst);
    world.pass(HOUR).await;
    world.provider.fails(AuthErrorKind::InvalidGrant);
    process.token().await.unwrap_err();
    process.settle().await;
    assert_eq!(world.heard.names(), ["sign in: revoked"]);
    assert!(!world.record().retired.unwrap().told);

    world.heard.deaf.store(false, Ordering::SeqCst);
    let other = world.process();
    other.token().await.unwrap_err();
    other.settle().await;
    assert_eq!(world.heard.names(), ["sign in: revoked"]);

    for process in [&process, &other, &world.process()] {
        world.pass(HOUR).await;
        process.token().await.unwrap_err();
        process.settle().await;
    }
    assert!(world.heard.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_at_once_is_reminded_of_what_nobody_heard_before() {
    let world = World::new();
    let process = world.signed_in().await;
    world.heard.deaf.store(true, Ordering::SeqCst);
    world.pass(HOUR).await;
    world.provider.fails(AuthErrorKind::InvalidGrant);
    process.token().await.unwrap_err();
    process.settle().await;
    world.heard.names();
    let known = KnownExpiry {
        secret: "client_secret".into(),
        expires_at: world.clock.now() + HOUR,
        source: "declared",
    };
    let expiry = Expiry::new("ops".into(), &known, "env=OPS_SECRET");

    let told_by_another = async || {
        let brief = world.process();
        let grant = Some(Arc::clone(&brief.grant));
        brief.keeper.remind_of(grant, vec![expiry.clone()]);
        brief.settle().await;
        let mut names = world.heard.names();
        names.sort();
        names
    };

    let both = ["1 days", "sign in: revoked"];
    assert_eq!(told_by_another().await, both);
    world.heard.deaf.store(false, Ordering::SeqCst);
    assert_eq!(told_by_another().await, both, "nobody had heard it");
    assert!(told_by_another().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_threshold_of_an_expiry_is_told_once_by_whichever_process() {
    const DAY: Duration = Duration::from_hours(24);
    let world = World::new();
    let known = KnownExpiry {
        secret: "client_secret".into(),
        expires_at: world.clock.now() + 40 * DAY,
        source: "declared",
    };
    let expiry = Expiry::new("ops".into(), &known, "env=OPS_SECRET");
    let processes = [world.process(), world.process()];
    let mut told = Vec::new();
    for hour in 0..24 * 41 {
        for process in &processes {
            process.keeper.shared.tell_expiry(&expiry).await;
        }
        let names = world.heard.names();
        told.extend(names.into_iter().map(|name| (40 - hour / 24, name)));
        world.pass(HOUR).await;
    }

    let days = [30, 14, 7, 3, 1];
    assert_eq!(told, days.map(|days| (days, format!("{days} days"))));
}

#[tokio::test(start_paused = true)]
async fn an_expiry_that_nobody_hears_of_is_told_again_and_late_ones_are_told_once() {
    let world = World::new();
    world.heard.deaf.store(true, Ordering::SeqCst);
    let known = KnownExpiry {
        secret: "client_secret".into(),
        expires_at: world.clock.now() + Duration::from_hours(5 * 24),
        source: "declared",
    };
    let expiry = Expiry::new("ops".into(), &known, "env=OPS_SECRET");
    let process = world.process();
    let shared = &process.keeper.shared;
    let now = world.clock.now();

    assert_eq!(shared.tell_expiry(&expiry).await, Some(now + HOUR));
    world.heard.deaf.store(false, Ordering::SeqCst);
    let next = now + Duration::from_hours(2 * 24);
    assert_eq!(shared.tell_expiry(&expiry).await, Some(next));
    assert_eq!(shared.tell_expiry(&expiry).await, Some(next));
    assert_eq!(
        world.heard.names(),
        ["5 days", "5 days"],
        "not heard, heard"
    );

    world.pass(Duration::from_hours(6 * 24)).await;
    assert_eq!(shared.tell_expiry(&expiry).await, None);
    assert_eq!(world.heard.names(), ["-1 days"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_being_told_is_told_to_its_end_whoever_stops_looking_after_it() {
    struct Slow(AtomicUsize);
    impl EventSink for Slow {
        fn emit<'a>(&'a self, _: &'a Event) -> BoxFuture<'a, bool> {
            async move {
                self.0.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(5 * MINUTE).await;
                true
            }
            .boxed()
        }
    }
    let clock = Arc::new(HandClock::default());
    let slow = Arc::new(Slow(AtomicUsize::new(0)));
    let known = KnownExpiry {
        secret: "client_secret".into(),
        expires_at: clock.now() + HOUR,
        source: "declared",
    };
    let keeper = Keeper::new(KeeperSettings {
        store: Arc::new(MemoryStore::default()),
        clock,
        events: Arc::clone(&slow) as Arc<dyn EventSink>,
        parameters: Parameters::default(),
    });
    let expiry = Expiry::new("ops".into(), &known, "env=OPS_SECRET");
    for _ in 0..3 {
        let tending = keeper.tend_grants(Vec::new(), vec![expiry.clone()]);
        assert!(tokio::time::timeout(MINUTE, tending).await.is_err());
        keeper.settle(HOUR).await;
    }
    assert_eq!(slow.0.load(Ordering::SeqCst), 1);
}
