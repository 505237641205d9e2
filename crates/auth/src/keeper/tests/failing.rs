//! What a failure leads to, and what it does not.

use super::*;

#[tokio::test(start_paused = true)]
async fn while_the_provider_is_away_the_old_token_is_served_down_to_its_floor() {
    let world = World::new();
    let process = world.signed_in().await;
    world.pass(Duration::from_mins(50)).await;

    let mut left = 3539 - 3000;
    while left > 0 {
        world.provider.fails(AuthErrorKind::Transient);
        assert_eq!(process.token().await.as_deref(), Ok("access-1"));
        process.settle().await;
        assert_eq!(process.state().await, GrantState::Degraded);
        let step = left.min(60);
        world.pass(Duration::from_secs(step)).await;
        left -= step;
    }
    world.pass(Duration::from_secs(1)).await;
    world.provider.fails(AuthErrorKind::Transient);
    let error = process.grant.token(&process.source).await.unwrap_err();
    assert_eq!(error.kind, AuthErrorKind::Transient);
    assert!(error.retry_after.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_asks_for_patience_is_not_asked_again_before_by_anybody() {
    let world = World::new();
    let process = world.signed_in().await;
    world.pass(HOUR).await;
    let mut busy = refusal(AuthErrorKind::Transient);
    busy.error.retry_after = Some(Duration::from_secs(30));
    busy.unheard = false;
    world.provider.next(Reply::Error(busy));
    assert_eq!(process.token().await, Err(AuthErrorKind::Transient));

    world.pass(Duration::from_secs(29)).await;
    for process in [&process, &world.process()] {
        let error = process.grant.token(&process.source).await.unwrap_err();
        assert_eq!(error.retry_after, Some(Duration::from_secs(1)));
        let error = process
            .grant
            .rotate(&process.source, true)
            .await
            .unwrap_err();
        assert_eq!(
            error.retry_after,
            Some(Duration::from_secs(1)),
            "not even by force"
        );
    }
    assert_eq!(world.provider.requests(), 1);
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(process.token().await.as_deref(), Ok("access-2"));
}

#[tokio::test(start_paused = true)]
async fn nobody_s_patience_is_asked_for_more_than_an_hour() {
    let world = World::new();
    let process = world.signed_in().await;
    world.pass(HOUR).await;
    let mut busy = refusal(AuthErrorKind::Transient);
    busy.error.retry_after = Some(Duration::from_hours(1000));
    world.provider.next(Reply::Error(busy));
    assert_eq!(process.token().await, Err(AuthErrorKind::Transient));

    world.pass(HOUR).await;
    assert_eq!(process.token().await.as_deref(), Ok("access-2"));
}

#[tokio::test(start_paused = true)]
async fn only_a_last_word_retires_a_grant() {
    for kind in [
        AuthErrorKind::Config,
        AuthErrorKind::Transient,
        AuthErrorKind::Denied,
        AuthErrorKind::Protocol,
        AuthErrorKind::Unsupported,
        AuthErrorKind::Internal,
        AuthErrorKind::Unresponsive,
    ] {
        let world = World::new();
        let process = world.signed_in().await;
        world.pass(HOUR).await;
        for _ in 0..20 {
            world.provider.fails(kind);
            assert_eq!(process.token().await, Err(kind));
            world.pass(Duration::from_hours(2)).await;
        }
        assert_eq!(process.token().await.as_deref(), Ok("access-2"), "{kind:?}");
        assert_eq!(process.state().await, GrantState::Fresh);
    }
    for (kind, reason) in [
        (AuthErrorKind::InvalidGrant, Reason::Revoked),
        (AuthErrorKind::NeedsUser, Reason::InteractionRequired),
    ] {
        let world = World::new();
        let process = world.signed_in().await;
        world.pass(HOUR).await;
        world.provider.fails(kind);
        assert_eq!(process.token().await, Err(kind));
        for _ in 0..20 {
            world.pass(Duration::from_hours(2)).await;
            assert_eq!(process.token().await, Err(kind));
            let forced = process.grant.rotate(&process.source, true).await;
            assert_eq!(forced.unwrap_err().kind, kind);
        }
        assert_eq!(world.provider.requests(), 1, "nothing more is asked");
        let GrantState::ReauthorizationRequired { reason: told, .. } = process.state().await else {
            panic!("a person is needed")
        };
        assert_eq!(told, reason);
        assert!(
            world.record().refresh.is_some(),
            "it stays until it is replaced"
        );

        let login = world.provider.tokens();
        process.grant.adopt(login).await.unwrap();
        assert_eq!(process.token().await.as_deref(), Ok("access-2"));
    }
}

#[tokio::test(start_paused = true)]
async fn why_a_person_is_needed_is_told_apart() {
    let with = |error: &str, suberror: &str, description: &str| {
        let mut refusal = refusal(AuthErrorKind::InvalidGrant);
        if error != "invalid_grant" {
            refusal.error.kind = AuthErrorKind::NeedsUser;
        }
        refusal.error.oauth_error = Some(error.into());
        refusal.error.oauth_suberror = Some(suberror.into());
        refusal.error.oauth_description = Some(description.into());
        refusal
    };
    for (refusal, reason) in [
        (
            with("invalid_grant", "bad_token", "AADSTS50173: …"),
            Reason::Revoked,
        ),
        (
            with("invalid_grant", "bad_token", "AADSTS700082: …"),
            Reason::Expired,
        ),
        (with("invalid_grant", "", "AADSTS70008: …"), Reason::Expired),
        (with("invalid_grant", "token_expired", ""), Reason::Expired),
        (with("consent_required", "", ""), Reason::ConsentRequired),
        (
            with("interaction_required", "consent_required", ""),
            Reason::ConsentRequired,
        ),
        (
            with("interaction_required", "basic_action", ""),
            Reason::InteractionRequired,
        ),
    ] {
        let world = World::new();
        let process = world.signed_in().await;
        world.pass(HOUR).await;
        world.provider.next(Reply::Error(refusal));
        process.token().await.unwrap_err();
        process.settle().await;
        assert_eq!(world.heard.names(), [format!("sign in: {}", reason.name())]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_without_a_refresh_token_ends_with_its_access_token() {
    let world = World::new();
    world.provider.rotates.store(false, Ordering::SeqCst);
    let process = world.signed_in().await;
    world.pass(HOUR).await;
    let mut nobody = refusal(AuthErrorKind::NeedsUser);
    nobody.error.oauth_error = None;
    world.provider.next(Reply::Error(nobody.clone()));

    assert_eq!(process.token().await, Err(AuthErrorKind::NeedsUser));
    let GrantState::ReauthorizationRequired { reason, .. } = process.state().await else {
        panic!("a person is needed")
    };
    assert_eq!(reason, Reason::Expired);

    // Where nobody ever signed in, that is no news.
    let world = World::new();
    let process = world.process();
    world.provider.next(Reply::Error(nobody));
    assert_eq!(process.token().await, Err(AuthErrorKind::NeedsUser));
    assert_eq!(process.state().await, GrantState::Absent);
    assert!(world.heard.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_has_not_signed_in_takes_nobodys_turn_at_the_provider() {
    struct Nobody;
    impl TokenSource for Nobody {
        fn obtain(&self, _: Option<Secret>) -> BoxFuture<'static, Result<Obtained, NotObtained>> {
            let error = AuthError::new("ops", AuthErrorKind::NeedsUser, "no sign-in yet");
            async { Err(error.into()) }.boxed()
        }
        fn is_signed_in_to(&self) -> bool {
            true
        }
    }
    let process = World::new().process();
    let nobody: Arc<dyn TokenSource> = Arc::new(Nobody);
    let begun = tokio::time::Instant::now();

    for n in 0..100 {
        let identity = process.grant.identity.clone();
        let grant = process.keeper.grant(GrantKey([n; 32]), identity);
        grant.token(&nobody).await.unwrap_err();
    }

    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_own_proof_is_refused_may_try_again() {
    let world = World::new();
    world.provider.rotates.store(false, Ordering::SeqCst);
    let process = world.process_with(|identity| identity.app_only = true);
    world.provider.fails(AuthErrorKind::InvalidGrant);
    assert_eq!(process.token().await, Err(AuthErrorKind::InvalidGrant));

    world.pass(Duration::from_secs(6)).await;
    assert_eq!(process.token().await.as_deref(), Ok("access-1"));
}

#[tokio::test(start_paused = true)]
async fn an_operator_who_puts_a_setting_right_gets_through_at_once() {
    let world = World::new();
    let process = world.signed_in().await;
    world.pass(HOUR).await;
    world.provider.fails(AuthErrorKind::Config);
    assert_eq!(process.token().await, Err(AuthErrorKind::Config));
    assert_eq!(process.token().await, Err(AuthErrorKind::Config));
    assert_eq!(
        world.provider.requests(),
        1,
        "this process asks no more for a while"
    );
    assert_eq!(process.state().await, GrantState::Degraded);

    let fixed = world.process();
    assert_eq!(fixed.token().await.as_deref(), Ok("access-2"));
    assert_eq!(process.token().await.as_deref(), Ok("access-2"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_not_known_is_one_trouble_for_all_its_grants() {
    let world = World::new();
    let process = world.process_with(|identity| identity.app_only = true);
    let others: Vec<_> = (0..100)
        .map(|n| {
            let mut identity = process.grant.identity.clone();
            identity.account = format!("mailbox-{n}").into();
            process.keeper.grant(GrantKey([100 + n; 32]), identity)
        })
        .collect();
    world.provider.fails(AuthErrorKind::Config);
    process.token().await.unwrap_err();
    for grant in &others {
        let error = grant.token(&process.source).await.unwrap_err();
        assert_eq!(error.oauth_error.as_deref(), Some("invalid_client"));
    }
    process.settle().await;
    assert_eq!(world.provider.requests(), 1);
    assert_eq!(world.heard.names(), ["failed Config"], "one alert");

    world.pass(Duration::from_mins(1)).await;
    assert!(
        others[0].token(&process.source).await.is_ok(),
        "the secret was put right"
    );
    world.pass(Duration::from_mins(1)).await;
    assert!(others[1].token(&process.source).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_panics_fails_its_callers_and_not_the_next() {
    struct Broken;
    impl TokenSource for Broken {
        fn obtain(&self, _: Option<Secret>) -> BoxFuture<'static, Result<Obtained, NotObtained>> {
            panic!("a bug")
        }
    }
    let world = World::new();
    let process = world.process();
    let broken: Arc<dyn TokenSource> = Arc::new(Broken);
    let error = process.grant.token(&broken).await.unwrap_err();
    assert_eq!(error.kind, AuthErrorKind::Transient);

    assert_eq!(process.token().await.as_deref(), Ok("access-1"));
}

#[tokio::test(start_paused = true)]
async fn a_record_of_a_newer_postrider_is_refused_plainly() {
    let world = World::new();
    let process = world.process();
    let newer = br#"{"version":2,"generation":1}"#;
    world.store.save(Shelf::Grant, &KEY, newer).unwrap();

    let error = process.grant.token(&process.source).await.unwrap_err();
    assert_eq!(error.kind, AuthErrorKind::Config);
    assert!(error.message.contains("version 2"), "{error}");
    assert_eq!(world.provider.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn patience_of_no_time_is_none_that_was_asked_for() {
    let world = World::new();
    let process = world.signed_in().await;
    world.pass(HOUR).await;
    for _ in 0..600 {
        let mut busy = refusal(AuthErrorKind::Transient);
        busy.error.retry_after = Some(Duration::ZERO);
        world.provider.next(Reply::Error(busy));
        assert_eq!(process.token().await, Err(AuthErrorKind::Transient));
        world.pass(Duration::from_secs(1)).await;
    }
    let requests = world.provider.requests();
    assert!((3..30).contains(&requests), "{requests} in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_process_vouches_for_the_client() {
    let world = World::new();
    let process = world.process_with(|identity| identity.app_only = true);
    let identity = process.grant.identity.clone();
    let sibling = process.keeper.grant(GrantKey([8; 32]), identity);
    world.provider.fails(AuthErrorKind::Config);
    process.token().await.unwrap_err();
    assert!(sibling.token(&process.source).await.is_err());

    world.pass(Duration::from_secs(1)).await;
    let corrected = world.process_with(|identity| identity.app_only = true);
    corrected.token().await.unwrap();
    process.token().await.unwrap();
    assert!(sibling.token(&process.source).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_provider_of_dead_tokens_is_told_of_once() {
    let world = World::new();
    let process = world.signed_in().await;
    world.pass(HOUR).await;
    *lock(&world.provider.lifetime) = Duration::ZERO;
    for _ in 0..5 {
        process.token().await.unwrap_err();
        world.pass(HOUR).await;
    }
    assert_eq!(world.provider.requests(), 5);
    assert_eq!(world.heard.names(), ["failed Protocol"]);
}
