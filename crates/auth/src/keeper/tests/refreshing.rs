//! What a refresh, or a login, does to the refresh token and what is kept.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_refresh_token_stays_until_a_new_one_comes() {
    let world = World::new();
    let process = world.signed_in().await;
    for (rotates, used) in [(false, 1), (true, 1), (true, 3), (false, 4)] {
        world.provider.rotates.store(rotates, Ordering::SeqCst);
        world.pass(HOUR).await;
        process.token().await.unwrap();
        let used = Some(format!("refresh-{used}"));
        assert_eq!(world.provider.seen().last(), Some(&used));
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_leaves_nothing_of_whoever_signed_in_before() {
    let world = World::new();
    let process = world.signed_in().await;
    world.provider.rotates.store(false, Ordering::SeqCst);
    let login = world.provider.tokens();
    assert_eq!(process.grant.adopt(login).await.unwrap().generation(), 2);

    let record = world.record();
    assert_eq!((record.refresh, record.previous_refresh), (None, None));
    world.pass(HOUR).await;
    process.token().await.unwrap();
    assert_eq!(world.provider.seen(), [None]);
}

#[tokio::test(start_paused = true)]
async fn what_a_login_brought_is_not_overwritten_by_an_older_flight() {
    let world = World::new();
    let process = world.signed_in().await;
    world.pass(HOUR).await;
    world.provider.close();
    world.provider.fails(AuthErrorKind::InvalidGrant);

    let flight = process.token();
    let login = async {
        world.provider.asked(1).await;
        let mut login = world.provider.tokens();
        login.access = SecretString::from("signed in");
        let adopting = process.grant.adopt(login);
        world.provider.open();
        adopting.await.unwrap()
    };
    let (refused, _) = tokio::join!(flight, login);

    assert_eq!(refused, Err(AuthErrorKind::InvalidGrant));
    assert_eq!(process.token().await.as_deref(), Ok("signed in"));
}

#[tokio::test(start_paused = true)]
async fn after_a_refresh_that_was_cut_short_the_refresh_token_is_tried_once() {
    let world = World::new();
    let first = world.signed_in().await;
    world.pass(HOUR).await;
    world.provider.close();
    let caller = tokio::time::timeout(Duration::from_secs(1), first.token());
    assert!(caller.await.is_err());
    first.keeper.kill();
    world.provider.open();
    assert!(world.record().intent.is_some());

    world.provider.fails(AuthErrorKind::InvalidGrant);
    let second = world.process();
    assert_eq!(second.token().await, Err(AuthErrorKind::InvalidGrant));
    second.settle().await;
    for process in [&first, &second] {
        assert_eq!(process.token().await, Err(AuthErrorKind::InvalidGrant));
    }

    assert_eq!(world.provider.requests(), 2, "cut short, and once more");
    let GrantState::ReauthorizationRequired {
        reason, message, ..
    } = second.state().await
    else {
        panic!("a person is needed")
    };
    assert_eq!(reason, Reason::LostRotation);
    assert!(message.contains("cut short"), "{message}");
    assert_eq!(world.heard.names(), ["sign in: lost_rotation"]);
}

#[tokio::test(start_paused = true)]
async fn a_cut_short_refresh_that_the_provider_forgives_is_none() {
    let world = World::new();
    world.signed_in().await;
    let mut record = world.record();
    let refresh = record.refresh.clone().unwrap().token;
    let used_at = world.clock.now() + Duration::from_secs(3590);
    record.intent = Some(super::super::record::Intent::new(1, &refresh, used_at));
    world.keep(&record);
    world.pass(HOUR).await;

    let graceful = world.process_with(|identity| {
        identity.policy.reuse_grace = ReuseGrace::For(Duration::from_secs(30));
    });
    world.provider.fails(AuthErrorKind::InvalidGrant);
    assert_eq!(graceful.token().await, Err(AuthErrorKind::InvalidGrant));
    let GrantState::ReauthorizationRequired { reason, .. } = graceful.state().await else {
        panic!("a person is needed")
    };
    assert_eq!(reason, Reason::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again_however_often_it_is_lost() {
    let world = World::new();
    let process = world.signed_in().await;
    world.pass(HOUR).await;
    for _ in 0..5 {
        world.provider.next(Reply::Silence);
        assert_eq!(process.token().await, Err(AuthErrorKind::Transient));
        assert!(world.record().intent.is_some());
        world.pass(Duration::from_mins(6)).await;
    }

    assert_eq!(process.token().await.as_deref(), Ok("access-2"));
    assert!(world.record().intent.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_refresh_token_before_is_kept_only_where_it_is_worth_something() {
    for (grace, kept) in [
        (ReuseGrace::Forever, true),
        (ReuseGrace::For(Duration::from_secs(30)), true),
        (ReuseGrace::default(), false),
    ] {
        let world = World::new();
        world.signed_in().await;
        world.pass(HOUR).await;
        let process = world.process_with(|identity| identity.policy.reuse_grace = grace);
        process.token().await.unwrap();
        assert_eq!(world.record().previous_refresh.is_some(), kept, "{grace:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_old_refresh_token_lives_it_helps_out_once() {
    let world = World::new();
    world.signed_in().await;
    world.pass(HOUR).await;
    let process = world.process_with(|identity| {
        identity.policy.reuse_grace = ReuseGrace::Forever;
    });
    process.token().await.unwrap();
    world.pass(HOUR).await;

    world.provider.fails(AuthErrorKind::InvalidGrant);
    assert_eq!(process.token().await.as_deref(), Ok("access-3"));
    let used = ["refresh-1", "refresh-2", "refresh-1"];
    assert_eq!(
        world.provider.seen(),
        used.map(|token| Some(token.to_owned()))
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_dead_on_arrival_is_not_served_but_its_refresh_token_is_kept() {
    let world = World::new();
    let process = world.signed_in().await;
    world.pass(HOUR).await;
    *lock(&world.provider.lifetime) = Duration::ZERO;

    assert_eq!(process.token().await, Err(AuthErrorKind::Protocol));
    assert_eq!(process.token().await, Err(AuthErrorKind::Protocol));
    assert_eq!(world.provider.requests(), 1, "it is left in peace");
    *lock(&world.provider.lifetime) = HOUR;
    world.pass(Duration::from_secs(6)).await;
    assert_eq!(process.token().await.as_deref(), Ok("access-3"));
    assert_eq!(world.provider.seen()[1].as_deref(), Some("refresh-2"));
}

#[tokio::test(start_paused = true)]
async fn a_rotation_refreshes_what_is_due_or_what_is_wanted_by_force() {
    let world = World::new();
    let process = world.signed_in().await;
    let rotate = async |force| process.grant.rotate(&process.source, force).await.unwrap();

    let rotation = rotate(false).await;
    assert_eq!(
        (rotation.outcome, rotation.generation),
        (RotationOutcome::Fresh, 1)
    );
    let rotation = rotate(true).await;
    assert_eq!(
        (rotation.outcome, rotation.generation),
        (RotationOutcome::Refreshed, 2)
    );
    world.pass(Duration::from_secs(2500)).await;
    let rotation = rotate(false).await;
    assert_eq!(
        (rotation.outcome, rotation.generation),
        (RotationOutcome::Refreshed, 3)
    );
    assert_eq!(rotation.expires_at, Some(world.clock.now() + HOUR));
    assert_eq!(world.provider.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_revoked_and_gone() {
    let world = World::new();
    let process = world.signed_in().await;
    let told: Arc<Mutex<Vec<Option<Secret>>>> = Arc::default();
    let revoke = {
        let told = Arc::clone(&told);
        move |refresh, access| {
            lock(&told).extend([refresh, access]);
            async { Some(Ok(())) }.boxed()
        }
    };

    assert_eq!(process.grant.forget(revoke).await, Ok((Some(Ok(())), true)));
    let tokens: Vec<_> = lock(&told).drain(..).flatten().collect();
    assert_eq!(tokens, [Secret::new("refresh-1"), Secret::new("access-1")]);
    assert!(world.store.load(Shelf::Grant, &KEY).unwrap().is_none());
    assert_eq!(process.state().await, GrantState::Absent);

    let nothing = process
        .grant
        .forget(|_, _| unreachable!("nothing to revoke"));
    assert_eq!(nothing.await, Ok((None, false)));
}

#[tokio::test(start_paused = true)]
async fn the_refresh_token_that_was_accepted_last_is_the_one_that_is_kept() {
    let world = World::new();
    let process = world.process_with(|identity| identity.policy.reuse_grace = ReuseGrace::Forever);
    process.grant.adopt(world.provider.tokens()).await.unwrap();
    let rotate = async || process.grant.rotate(&process.source, true).await;
    rotate().await.unwrap();

    // The newest one is refused, the one before is accepted, and no other one comes with it.
    world.provider.rotates.store(false, Ordering::SeqCst);
    world.provider.fails(AuthErrorKind::InvalidGrant);
    rotate().await.unwrap();
    rotate().await.unwrap();
    let seen: Vec<_> = world.provider.seen().into_iter().flatten().collect();
    let refresh = ["refresh-1", "refresh-2", "refresh-1", "refresh-1"];
    assert_eq!(seen, refresh);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_said_to_live_for_no_time_at_all_lives_for_ever() {
    let world = World::new();
    let process = world.process();
    let mut login = world.provider.tokens();
    login.refresh_lifetime = Some(Duration::ZERO);
    process.grant.adopt(login).await.unwrap();
    for _ in 0..10 {
        process.token().await.unwrap();
        process.settle().await;
    }
    assert_eq!(world.provider.requests(), 0);
    let status = process.grant.status().await.unwrap();
    assert_eq!(status.refresh_token.unwrap().lapses_at, None);
}

#[tokio::test(start_paused = true)]
async fn an_application_s_record_that_cannot_be_read_is_replaced_by_force_too() {
    let world = World::new();
    world.provider.rotates.store(false, Ordering::SeqCst);
    let process = world.process_with(|identity| identity.app_only = true);
    world.store.save(Shelf::Grant, &KEY, b"damaged").unwrap();

    let rotation = process.grant.rotate(&process.source, true).await.unwrap();
    assert_eq!(rotation.outcome, RotationOutcome::Refreshed);
    assert_eq!(world.record().generation, 1);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_refers_to_is_told_apart_and_discarded_if_nothing_came_meanwhile() {
    let world = World::new();
    let process = world.signed_in().await;
    let keeper = &process.keeper;
    let kept = keeper.kept(KEY).await.unwrap().unwrap();
    assert_eq!(kept.account.as_deref(), Some("ops"));
    assert_eq!(kept.username.as_deref(), Some("ops@example.org"));
    assert!(kept.living);
    assert_eq!(GrantKey::from_hex(&KEY.to_string()), Some(KEY));
    for text in ["", "07", "+7", &"G7".repeat(32), &"07".repeat(33)] {
        assert_eq!(GrantKey::from_hex(text), None, "{text:?}");
    }

    process.grant.rotate(&process.source, true).await.unwrap();
    assert_eq!(
        keeper.discard(KEY, Some(&kept)).await,
        Ok(false),
        "it is in use"
    );
    let kept = keeper.kept(KEY).await.unwrap().unwrap();
    let lock = world.store.try_lock(Shelf::Grant, &KEY).unwrap();
    assert_eq!(keeper.discard(KEY, Some(&kept)).await, Ok(false));
    drop(lock);
    assert_eq!(keeper.discard(KEY, None).await, Ok(false), "it can be read");
    assert_eq!(keeper.discard(KEY, Some(&kept)).await, Ok(true));
    assert_eq!(keeper.kept(KEY).await, Ok(None));

    world.store.save(Shelf::Grant, &KEY, b"damaged").unwrap();
    assert!(keeper.kept(KEY).await.is_err());
    assert_eq!(keeper.discard(KEY, None).await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn another_programs_refresh_token_is_taken_in_where_there_is_none() {
    let world = World::new();
    let process = world.process();

    assert!(process.grant.take_in(Secret::new("theirs")).await.unwrap());
    assert_eq!(process.state().await, GrantState::Due);
    assert_eq!(world.provider.requests(), 0, "nobody needs a token yet");
    assert!(process.token().await.is_ok());
    assert_eq!(world.provider.seen(), [Some("theirs".to_owned())]);

    // What came of it is newer, here and in any other process.
    let other = world.process();
    assert!(!other.grant.take_in(Secret::new("theirs")).await.unwrap());
    assert!(other.token().await.is_ok());
    assert_eq!(world.provider.requests(), 1);
}
