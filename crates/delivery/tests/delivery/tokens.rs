//! Trouble with a credential parks an account. It fails nothing.

use std::time::Duration;

use postrider_spool::StateKind;

use crate::support::{Closed, Say, World, message};

#[tokio::test]
async fn a_token_that_is_lost_for_three_days_bounces_nothing() {
    let mut world = World::new();
    world.policy.max_age = Duration::from_hours(48);
    let server = world.server("alerts");
    server.close(Closed::NoToken);
    for number in 0..20 {
        world.queue("alerts", &format!("m{number}")).await;
    }
    world.run();
    world.stride = Duration::from_mins(5);
    world.pass(Duration::from_hours(72)).await;
    assert_eq!(world.states().await[&StateKind::Queued], 20);
    assert!(server.connections() < 90, "{}", server.connections());

    world.stride = Duration::ZERO;
    server.sign_in();
    let took = world.until_done(Duration::from_hours(1)).await;
    assert!(took < Duration::from_mins(1), "{took:?}");
    assert_eq!(server.taken().len(), 20);
    assert!(world.heard.moved_to(StateKind::Failed).is_empty());
    assert!(
        world
            .heard
            .notes()
            .iter()
            .any(|note| note == "resumed alerts")
    );
}

#[tokio::test]
async fn mail_that_waited_for_a_token_is_not_too_old_when_it_is_first_refused_for_now() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::on_disk(dir.path());
    world.policy.max_age = Duration::from_hours(48);
    // What is too old is looked for several times before the next attempt.
    world.policy.retry.first = Duration::from_mins(5);
    let server = world.server("alerts");
    server.close(Closed::NoToken);
    world.queue("alerts", "patient").await;
    world.run();
    world.stride = Duration::from_mins(5);
    world.pass(Duration::from_hours(72)).await;
    server.say_once([Say::No("451 4.3.2 Temporary server error")]);
    server.sign_in();
    world.stride = Duration::ZERO;
    // A probe may be under way that began before.
    world
        .until(Duration::from_mins(1), |world| {
            world.heard.moved_to(StateKind::Deferred).len() == 1
        })
        .await;
    // Another process knows, too, that it was parked.
    world.stop().await;
    let mut world = world.reopened(dir.path());
    world.run();
    world.until_done(Duration::from_hours(1)).await;
    assert_eq!(world.states().await[&StateKind::Delivered], 1);
}

#[tokio::test]
async fn mail_that_its_sender_lets_expire_does_so_while_its_account_is_parked() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.close(Closed::NoToken);
    let mut urgent = message("alerts", "urgent");
    urgent.expires_at = Some(world.now() + Duration::from_hours(2));
    let urgent = world.queue_message(urgent).await;
    let patient = world.queue("alerts", "patient").await;
    world.run();
    world.stride = Duration::from_secs(30);
    world.pass(Duration::from_hours(3)).await;
    assert_eq!(world.ends(urgent).await[0].0, StateKind::Failed);
    assert_eq!(world.ends(patient).await[0].0, StateKind::Queued);
}

#[tokio::test]
async fn a_wrong_password_is_tried_less_and_less_often_though_a_token_seems_to_be_there() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.close(Closed::Password);
    world.queue("alerts", "one").await;
    world.run();
    world.stride = Duration::from_secs(30);
    world.pass(Duration::from_hours(24)).await;
    let tries = server.connections();
    assert!((15..45).contains(&tries), "{tries}");
    let notes = world.heard.notes();
    assert!(
        notes[0].starts_with("paused alerts parked "),
        "{}",
        notes[0]
    );
    assert!(notes[0].contains("535 5.7.139"), "{}", notes[0]);
}

#[tokio::test]
async fn an_account_that_was_parked_stays_so_in_the_next_process_until_somebody_signs_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::on_disk(dir.path());
    let server = world.server("alerts");
    server.close(Closed::NoToken);
    world.queue("alerts", "one").await;
    world.run();
    world.pass(Duration::from_mins(2)).await;
    let tries = server.connections();
    world.kill().await;
    let mut world = world.reopened(dir.path());
    world.run();
    world.pass(Duration::from_mins(2)).await;
    assert_eq!(server.connections(), tries);
    server.sign_in();
    world.until_done(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_pause_ends_when_its_owner_says_so() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.close(Closed::Away);
    world.queue("alerts", "one").await;
    world.run();
    world.stride = Duration::from_secs(10);
    world.pass(Duration::from_hours(2)).await;
    server.open();
    world.stride = Duration::ZERO;
    world.running().resume("alerts");
    world.until_done(Duration::from_secs(5)).await;
}
