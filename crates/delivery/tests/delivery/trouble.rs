//! A queue that cannot be written, or that others work on, too.

use std::time::Duration;

use postrider_delivery::Flush;
use postrider_spool::{SpoolSettings, SqliteSpool, StateKind, Store as _};

use crate::support::{Closed, World};

#[tokio::test]
async fn verdicts_wait_for_a_disk_that_is_full_and_nothing_is_begun_meanwhile() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.limit(|limits| (limits.sessions, limits.window) = (1, 1));
    for number in 0..10 {
        world.queue("alerts", &format!("m{number}")).await;
    }
    world.run();
    world
        .until(Duration::from_mins(1), |_| server.taken().len() == 3)
        .await;
    world.store.fail(&["settle"]);
    world.pass(Duration::from_mins(10)).await;
    let arrived = server.taken().len();
    assert!(arrived <= 5, "{arrived}");
    assert!(
        world
            .heard
            .notes()
            .iter()
            .any(|note| note.starts_with("trouble "))
    );
    world.store.fail(&[]);
    world.until_done(Duration::from_mins(2)).await;
    assert_eq!(server.taken().len(), 10);
    assert_eq!(world.states().await[&StateKind::Delivered], 10);
}

#[tokio::test]
async fn a_store_that_hands_out_nothing_is_asked_again() {
    let mut world = World::new();
    let server = world.server("alerts");
    world
        .store
        .fail(&["begin", "next_due", "slot", "account_state"]);
    world.queue("alerts", "m").await;
    world.store.fail(&["begin"]);
    world.run();
    world.pass(Duration::from_mins(1)).await;
    for failing in ["next_due", "slot", "account_state"] {
        world.store.fail(&[failing]);
        world.queue("alerts", failing).await;
        world.store.take_calls();
        world.pass(Duration::from_mins(1)).await;
        let calls = world.store.take_calls();
        assert!((1..=70).contains(&calls[failing]), "{calls:?}");
    }
    world.store.fail(&[]);
    world.until_done(Duration::from_mins(1)).await;
    assert_eq!(server.taken().len(), 4);
}

#[tokio::test]
async fn two_processes_share_the_sessions_and_the_work() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.limit(|limits| limits.sessions = 2);
    for number in 0..60 {
        world.queue("alerts", &format!("m{number}")).await;
    }
    world.run();
    let other = world.delivery();
    let flush = tokio::spawn(async move { other.flush(Flush::default()).await });
    world.until_done(Duration::from_mins(5)).await;
    world
        .until(Duration::from_mins(1), |_| flush.is_finished())
        .await;
    flush.await.unwrap().unwrap();
    assert_eq!(server.taken().len(), 60);
    assert_eq!(server.most_open(), 2);
}

#[tokio::test]
async fn a_pause_that_another_process_ends_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::on_disk(dir.path());
    let server = world.server("alerts");
    server.close(Closed::NoToken);
    world.queue("alerts", "m").await;
    world.run();
    world.pass(Duration::from_mins(2)).await;
    server.open();
    let other = SqliteSpool::open(dir.path(), SpoolSettings::default()).unwrap();
    other.back_off("alerts", None, world.now()).await.unwrap();
    let took = world.until_done(Duration::from_mins(1)).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_process_that_others_took_for_dead_joins_anew() {
    let mut world = World::new();
    let server = world.server("alerts");
    world.run();
    world.store.fail(&["heartbeat"]);
    world.pass(Duration::from_mins(10)).await;
    world.store.fail(&[]);
    world.pass(Duration::from_mins(1)).await;
    world.queue("alerts", "m").await;
    world.until_done(Duration::from_mins(1)).await;
    assert_eq!(server.taken().len(), 1);
    assert!(world.store.take_calls()["join"] >= 2);
}

#[tokio::test]
async fn a_route_whose_sessions_others_have_holds_up_nobody() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.close(Closed::Busy);
    world.queue("alerts", "m").await;
    world.run();
    world.pass(Duration::from_mins(2)).await;
    assert!(world.heard.notes().is_empty(), "{:?}", world.heard.notes());
    assert!(
        (3..=5).contains(&server.connections()),
        "{}",
        server.connections()
    );
    server.open();
    world.until_done(Duration::from_mins(1)).await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_delays_nothing_that_is_accepted_then() {
    let mut world = World::new();
    let server = world.server("alerts");
    world.queue("alerts", "before").await;
    world.run();
    world.until_done(Duration::from_mins(1)).await;
    world.clock.set(world.now() - Duration::from_hours(2));
    world.queue("alerts", "after").await;
    let took = world.until_done(Duration::from_mins(1)).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(server.taken().len(), 2);
}
