//! Mail that is too old, or too early.

use std::time::Duration;

use postrider_spool::StateKind;

use crate::support::{Closed, Say, World, message};

#[tokio::test]
async fn what_is_refused_for_now_is_tried_with_longer_and_longer_waits_until_it_is_too_old() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.say(|_| Say::No("451 4.3.2 Temporary server error"));
    let id = world.queue("alerts", "m").await;
    world.run();
    world.stride = Duration::from_secs(20);
    world.pass(Duration::from_hours(9)).await;
    world.stride = Duration::from_mins(5);
    let took = Duration::from_hours(9) + world.until_done(Duration::from_hours(6 * 24)).await;

    assert!(took >= Duration::from_hours(5 * 24), "{took:?}");
    assert!(took < Duration::from_hours(5 * 24 + 1), "{took:?}");
    let (state, why) = world.ends(id).await.remove(0);
    assert_eq!(state, StateKind::Failed);
    assert!(why.contains("451 4.3.2 Temporary server error"), "{why}");
    assert!(why.contains("not delivered within 5 d"), "{why}");
    let times: Vec<_> = server.arrivals().iter().map(|arrival| arrival.at).collect();
    let minutes: Vec<_> = times
        .windows(2)
        .map(|pair| (pair[1].duration_since(pair[0]).as_secs() + 30) / 60)
        .collect();
    assert_eq!(minutes[..9], [1, 2, 4, 8, 16, 32, 64, 128, 240]);
    assert!(
        minutes[9..].iter().all(|wait| (238..=252).contains(wait)),
        "{minutes:?}"
    );
}

#[tokio::test]
async fn mail_for_a_server_that_never_comes_back_fails_in_the_end() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.close(Closed::Away);
    world.queue("alerts", "m").await;
    world.run();
    world.stride = Duration::from_mins(5);
    let took = world.until_done(Duration::from_hours(6 * 24)).await;
    assert!(took >= Duration::from_hours(5 * 24), "{took:?}");
    assert_eq!(world.states().await[&StateKind::Failed], 1);
}

#[tokio::test]
async fn mail_for_later_is_sent_then_and_grows_old_from_then_on() {
    let mut world = World::new();
    world.policy.max_age = Duration::from_hours(2);
    let server = world.server("alerts");
    server.say_once([Say::No("451 4.3.2 Temporary server error")]);
    let begun = world.now();
    let mut later = message("alerts", "later");
    later.send_at = Some(begun + Duration::from_hours(10));
    world.queue_message(later).await;
    world.run();
    world.stride = Duration::from_mins(1);
    world.pass(Duration::from_mins(9 * 60 + 58)).await;
    world.stride = Duration::from_secs(10);
    world.until_done(Duration::from_hours(2)).await;
    let taken = server.taken();
    assert_eq!(taken.len(), 1);
    assert!(taken[0].at >= begun + Duration::from_hours(10));
    assert!(taken[0].at < begun + Duration::from_hours(10) + Duration::from_mins(3));
}
