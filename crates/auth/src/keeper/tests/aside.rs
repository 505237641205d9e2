//! What asking for a token of another resource does to the grant: nothing is lost.

use super::*;

fn ask(
    process: &Process,
) -> impl FnOnce(Option<Secret>) -> BoxFuture<'static, Result<Obtained, NotObtained>> + Send + 'static
{
    let source = Arc::clone(&process.source);
    move |refresh| source.obtain(refresh)
}

#[tokio::test(start_paused = true)]
async fn the_grants_own_token_stays_and_the_refresh_token_that_came_is_kept() {
    let world = World::new();
    let process = world.signed_in().await;
    let own = process.token().await.unwrap();
    let before = world.record();

    let aside = process.grant.aside(ask(&process)).await.unwrap();

    assert_ne!(aside.value().expose_secret(), own);
    assert_eq!(aside.generation(), 0);
    let after = world.record();
    assert_eq!(
        (&after.access, after.generation),
        (&before.access, before.generation)
    );
    assert_eq!(after.intent, None);
    assert_ne!(after.refresh, before.refresh);
    assert_eq!(process.token().await.unwrap(), own);

    world.pass(HOUR).await;
    process.token().await.unwrap();
    let newest = after.refresh.unwrap().token.expose().to_owned();
    assert_eq!(world.provider.seen().last(), Some(&Some(newest)));
}

#[tokio::test(start_paused = true)]
async fn without_a_new_refresh_token_the_old_one_stays() {
    let world = World::new();
    let process = world.signed_in().await;
    world.provider.rotates.store(false, Ordering::SeqCst);
    let before = world.record().refresh.unwrap().token;

    process.grant.aside(ask(&process)).await.unwrap();

    assert_eq!(world.record().refresh.unwrap().token, before);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_another_resource_asks_nobody_to_sign_in() {
    let world = World::new();
    let process = world.signed_in().await;
    let before = world.record();
    world.provider.fails(AuthErrorKind::InvalidGrant);

    let refused = process.grant.aside(ask(&process)).await;

    assert_eq!(refused.unwrap_err().kind, AuthErrorKind::InvalidGrant);
    assert_eq!(world.record(), before);
    assert_eq!(world.heard.names(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_leaves_the_intent_to_the_next_flight() {
    let world = World::new();
    let process = world.signed_in().await;
    world.provider.next(Reply::Silence);

    let lost = process.grant.aside(ask(&process)).await;

    assert_eq!(lost.unwrap_err().kind, AuthErrorKind::Transient);
    assert!(world.record().intent.is_some());
    world.pass(HOUR).await;
    process.token().await.unwrap();
    assert_eq!(world.record().intent, None);
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_a_flight_and_uses_what_that_brought() {
    let world = World::new();
    let process = world.signed_in().await;
    world.pass(HOUR).await;
    world.provider.close();

    let flight = process.token();
    let aside = async {
        world.provider.asked(1).await;
        let asking = process.grant.aside(ask(&process));
        world.provider.open();
        asking.await.unwrap();
    };
    let (flown, ()) = tokio::join!(flight, aside);
    flown.unwrap();

    let seen = world.provider.seen();
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0], seen[1], "a refresh token is used once");
}
