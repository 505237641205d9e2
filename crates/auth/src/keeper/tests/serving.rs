//! Which token is served when, and who waits.

use futures_util::future::join_all;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_fresh_token_costs_nothing_and_a_due_one_is_replaced_behind_the_callers_back() {
    let world = World::new();
    let process = world.signed_in().await;

    world.pass(Duration::from_secs(1439)).await;
    assert_eq!(process.token().await.as_deref(), Ok("access-1"));
    process.settle().await;
    assert_eq!(world.provider.requests(), 0);

    world.pass(Duration::from_secs(1000)).await;
    assert_eq!(process.state().await, GrantState::Due);
    assert_eq!(
        process.token().await.as_deref(),
        Ok("access-1"),
        "nobody waits"
    );
    process.settle().await;
    assert_eq!(process.token().await.as_deref(), Ok("access-2"));
    assert_eq!(world.provider.seen(), [Some("refresh-1".to_owned())]);
    assert_eq!(process.state().await, GrantState::Fresh);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_served_down_to_its_floor_and_no_further() {
    let world = World::new();
    let process = world.signed_in().await;
    world.provider.close();

    world.pass(Duration::from_secs(3539)).await;
    assert_eq!(process.token().await.as_deref(), Ok("access-1"));
    world.provider.asked(1).await;
    world.pass(Duration::from_secs(1)).await;
    let waiting = tokio::time::timeout(Duration::from_secs(5), process.token());
    assert!(waiting.await.is_err(), "what is left is too little");

    world.provider.open();
    assert_eq!(process.token().await.as_deref(), Ok("access-2"));
}

#[tokio::test(start_paused = true)]
async fn everybody_who_waits_gets_the_one_flights_token() {
    let world = World::new();
    let process = world.signed_in().await;
    world.pass(HOUR).await;

    let tokens = join_all((0..100).map(|_| process.token())).await;

    assert_eq!(world.provider.requests(), 1);
    assert!(
        tokens
            .iter()
            .all(|token| token.as_deref() == Ok("access-2"))
    );
}

#[tokio::test(start_paused = true)]
async fn fifty_processes_at_the_moment_of_expiry_make_one_request() {
    let world = World::new();
    world.signed_in().await;
    world.pass(HOUR).await;
    world.provider.close();
    let processes: Vec<_> = (0..50).map(|_| world.process()).collect();

    let begun = tokio::time::Instant::now();
    let (tokens, ()) = tokio::join!(join_all(processes.iter().map(Process::token)), async {
        world.provider.asked(1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.provider.open();
    });

    assert_eq!(world.provider.requests(), 1);
    assert!(
        tokens
            .iter()
            .all(|token| token.as_deref() == Ok("access-2"))
    );
    assert!(
        begun.elapsed() < Duration::from_millis(1200),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_flight_lands_even_if_everybody_who_waited_has_gone() {
    let world = World::new();
    let process = world.signed_in().await;
    world.pass(HOUR).await;
    world.provider.close();

    let gone = tokio::time::timeout(Duration::from_secs(1), process.token()).await;
    assert!(gone.is_err());
    world.provider.open();
    process.settle().await;

    assert_eq!(process.token().await.as_deref(), Ok("access-2"));
    assert_eq!(world.provider.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_visible_only_once_it_is_kept() {
    let store = Arc::new(Obstinate::default());
    let world = World::with_store(Arc::clone(&store) as Arc<dyn GrantStore>);
    let process = world.signed_in().await;
    world.pass(HOUR).await;

    // The intent is written; what came is not.
    store.refuse_after(1);
    assert_eq!(process.token().await, Err(AuthErrorKind::Transient));
    assert_eq!(world.provider.requests(), 1);
    process.keeper.settle(MINUTE).await;
    assert_eq!(
        process.token().await,
        Err(AuthErrorKind::Transient),
        "not served"
    );
    assert_eq!(
        world.heard.names(),
        ["failed Transient"],
        "somebody is told"
    );
    assert!(world.record().intent.is_some());

    store.refuse_after(usize::MAX);
    process.settle().await;
    assert_eq!(
        process.token().await.as_deref(),
        Ok("access-2"),
        "nothing was lost"
    );
    assert_eq!(world.provider.requests(), 1);
    assert!(world.record().intent.is_none());
}

#[tokio::test(start_paused = true)]
async fn without_a_store_to_write_to_a_refresh_token_is_not_used_and_an_application_goes_on() {
    let store = Arc::new(Obstinate::default());
    let world = World::with_store(Arc::clone(&store) as Arc<dyn GrantStore>);
    let person = world.signed_in().await;
    world.pass(HOUR).await;
    store.refuse_after(0);

    assert_eq!(person.token().await, Err(AuthErrorKind::Transient));
    assert_eq!(world.provider.requests(), 0);

    let store = Arc::new(Obstinate::default());
    store.refuse_after(0);
    let world = World::with_store(store);
    world.provider.rotates.store(false, Ordering::SeqCst);
    let application = world.process_with(|identity| identity.app_only = true);
    assert_eq!(application.token().await.as_deref(), Ok("access-1"));
    assert_eq!(application.token().await.as_deref(), Ok("access-1"));
    world.pass(HOUR).await;
    assert_eq!(application.token().await.as_deref(), Ok("access-2"));
    assert_eq!(world.provider.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_once_a_minute_and_only_if_it_is_the_current_one() {
    let world = World::new();
    let process = world.signed_in().await;

    process.grant.invalidate(0).await;
    assert_eq!(process.token().await.as_deref(), Ok("access-1"));
    process.grant.invalidate(1).await;
    assert!(world.record().spoilt, "every process knows");
    assert_eq!(process.token().await.as_deref(), Ok("access-2"));
    process.grant.invalidate(1).await;
    world.pass(Duration::from_secs(59)).await;
    process.grant.invalidate(2).await;
    assert_eq!(process.token().await.as_deref(), Ok("access-2"));
    world.pass(Duration::from_secs(1)).await;
    process.grant.invalidate(2).await;
    assert_eq!(process.token().await.as_deref(), Ok("access-3"));
    assert_eq!(world.provider.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_not_served_again_while_the_provider_is_away() {
    let world = World::new();
    let process = world.signed_in().await;
    process.grant.invalidate(1).await;

    world.provider.fails(AuthErrorKind::Transient);
    assert_eq!(process.token().await, Err(AuthErrorKind::Transient));
    assert_eq!(world.process().token().await, Err(AuthErrorKind::Transient));
    assert_eq!(world.provider.requests(), 1, "it is left in peace");
}

#[tokio::test(start_paused = true)]
async fn what_another_process_fetched_is_taken_over() {
    let world = World::new();
    let first = world.signed_in().await;
    let second = world.process();
    world.pass(HOUR).await;

    assert_eq!(first.token().await.as_deref(), Ok("access-2"));
    assert_eq!(second.token().await.as_deref(), Ok("access-2"));
    assert_eq!(world.provider.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_costs_one_refresh_at_most() {
    const DAY: Duration = Duration::from_hours(24);
    for ahead in [true, false] {
        let world = World::new();
        let process = world.signed_in().await;
        if ahead {
            world.clock.advance(DAY);
        } else {
            world.clock.set_back(DAY);
        }
        for process in [process, world.process()] {
            process.token().await.unwrap();
            process.settle().await;
            process.token().await.unwrap();
            process.settle().await;
        }
        assert!(world.provider.requests() <= 1, "ahead: {ahead}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_does_not_lengthen_a_tokens_life() {
    let world = World::new();
    let process = world.signed_in().await;
    world.pass(Duration::from_mins(50)).await;
    world.clock.set_back(Duration::from_secs(2000));
    world.pass(Duration::from_mins(9)).await;

    assert_eq!(process.token().await.as_deref(), Ok("access-2"));
}

#[tokio::test(start_paused = true)]
async fn a_token_from_the_future_is_the_last_resort() {
    let world = World::new();
    world.signed_in().await;
    world.clock.set_back(Duration::from_hours(24));
    let process = world.process();

    world.provider.fails(AuthErrorKind::Transient);
    assert_eq!(process.token().await.as_deref(), Ok("access-1"));
    assert_eq!(world.provider.requests(), 1);
}

/// A store that refuses to write, or to read, when told to.
pub(super) struct Obstinate {
    store: MemoryStore,
    writes_left: AtomicUsize,
    unreadable: AtomicBool,
}

impl Default for Obstinate {
    fn default() -> Self {
        Self {
            store: MemoryStore::default(),
            writes_left: AtomicUsize::new(usize::MAX),
            unreadable: AtomicBool::new(false),
        }
    }
}

impl Obstinate {
    fn refuse_after(&self, writes: usize) {
        self.writes_left.store(writes, Ordering::SeqCst);
    }

    pub(super) fn hide(&self) {
        self.unreadable.store(true, Ordering::SeqCst);
    }
}

impl GrantStore for Obstinate {
    fn load(&self, kind: Shelf, key: &GrantKey) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(StoreError::new("an error of the disk", false));
        }
        self.store.load(kind, key)
    }

    fn save(&self, kind: Shelf, key: &GrantKey, record: &[u8]) -> Result<(), StoreError> {
        let left = self.writes_left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(StoreError::new("no room left", false));
        }
        if left != usize::MAX {
            self.writes_left.store(left - 1, Ordering::SeqCst);
        }
        self.store.save(kind, key, record)
    }

    fn remove(&self, kind: Shelf, key: &GrantKey) -> Result<bool, StoreError> {
        self.store.remove(kind, key)
    }

    fn try_lock(&self, kind: Shelf, key: &GrantKey) -> Result<Option<StoreLock>, StoreError> {
        self.store.try_lock(kind, key)
    }

    fn blocks(&self) -> bool {
        false
    }
}
