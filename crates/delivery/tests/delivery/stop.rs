//! The end of a process.

use std::time::Duration;

use postrider_spool::StateKind;

use crate::support::{Closed, World};

#[tokio::test]
async fn what_is_in_flight_ends_and_nothing_new_begins() {
    let mut world = World::new();
    let server = world.server("alerts");
    for number in 0..100 {
        world.queue("alerts", &format!("m{number}")).await;
    }
    world.run();
    world
        .until(Duration::from_mins(1), |_| server.taken().len() >= 5)
        .await;
    let begun = world.heard.moved_to(StateKind::Sending).len();
    world.stop().await;
    let states = world.states().await;
    let delivered = server.taken().len();
    assert_eq!(world.heard.moved_to(StateKind::Sending).len(), begun);
    assert_eq!(delivered, begun);
    assert_eq!(
        states[&StateKind::Queued],
        100 - u64::try_from(delivered).unwrap()
    );
    assert!(!states.contains_key(&StateKind::Sending));
}

#[tokio::test]
async fn what_takes_too_long_to_end_is_cut_off_and_unknown() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.limit(|limits| limits.window = 1);
    server.takes(Duration::from_hours(1));
    world.queue("alerts", "slow").await;
    world.run();
    world.pass(Duration::from_secs(10)).await;
    let before = world.now();
    world.stop().await;
    let took = world.now().duration_since(before).as_secs();
    assert_eq!(took, 20);
    assert_eq!(world.states().await[&StateKind::Unknown], 1);
}

#[tokio::test]
async fn a_session_that_has_no_message_yet_is_not_waited_for() {
    let mut world = World::new();
    let silent = world.server("silent");
    silent.close(Closed::Away);
    let server = world.server("alerts");
    server.takes(Duration::from_secs(15));
    world.queue("silent", "waits").await;
    let sent = world.queue("alerts", "slow").await;
    world.run();
    world.pass(Duration::from_secs(10)).await;
    assert_eq!((silent.sessions(), server.sessions()), (1, 1));
    let before = world.now();

    world.running().stop();
    world.pass(Duration::ZERO).await;
    assert_eq!((silent.sessions(), server.sessions()), (0, 1));

    world.stop().await;
    let took = world.now().duration_since(before).as_secs();
    assert_eq!(took, 5, "what is in flight has its time");
    assert_eq!(world.ends(sent).await[0].0, StateKind::Delivered);
    assert_eq!(world.states().await[&StateKind::Queued], 1);
    assert_eq!(world.heard.notes(), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_process_that_died_was_sending_is_unknown_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::on_disk(dir.path());
    let server = world.server("alerts");
    server.limit(|limits| (limits.sessions, limits.window) = (1, 4));
    server.takes(Duration::from_secs(10));
    for number in 0..10 {
        world.queue("alerts", &format!("m{number}")).await;
    }
    world.run();
    world.pass(Duration::from_secs(25)).await;
    world.kill().await;
    let mut world = world.reopened(dir.path());
    world.run();
    world.until_done(Duration::from_mins(10)).await;
    let states = world.states().await;
    assert_eq!(states[&StateKind::Unknown], 2);
    assert_eq!(states[&StateKind::Delivered], 8);
    let unknown = world.heard.moved_to(StateKind::Unknown);
    assert_eq!(unknown.len(), 2);
    assert_eq!(server.taken().len(), 8);
}
