//! Nothing to do costs next to nothing.

use std::time::Duration;

use crate::support::{Closed, World};

#[tokio::test]
async fn an_idle_hour_asks_the_store_for_signs_of_others_and_nothing_else() {
    let mut world = World::new();
    let server = world.server("alerts");
    world.queue("alerts", "m").await;
    world.run();
    world.until_done(Duration::from_mins(1)).await;
    world.pass(Duration::from_mins(5)).await;
    world.store.take_calls();
    world.pass(Duration::from_hours(1)).await;
    let calls = world.store.take_calls();
    let count = |name| calls.get(name).copied().unwrap_or(0);
    assert!((1700..=1800).contains(&count("look")), "{calls:?}");
    assert!((170..=180).contains(&count("heartbeat")), "{calls:?}");
    let others: u64 = calls.values().sum::<u64>() - count("look") - count("heartbeat");
    // Once a minute what dead processes left, and whether that made something due.
    assert!(others <= 60 + 60 + 2, "{calls:?}");
    assert_eq!(
        (count("begin"), count("slot"), server.connections()),
        (0, 0, 1)
    );
}

#[tokio::test]
async fn what_waits_for_its_time_or_for_the_pace_is_not_asked_for_again_and_again() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.limit(|limits| limits.pace.per_minute = Some(1));
    for number in 0..60 {
        world.queue("alerts", &format!("m{number}")).await;
    }
    world.server("away").close(Closed::Away);
    world.queue("away", "a").await;
    world.run();
    world.pass(Duration::from_mins(1)).await;
    world.store.take_calls();
    world.pass(Duration::from_mins(30)).await;
    let calls = world.store.take_calls();
    // A turn a minute: a look, a session, the message, and that there is no more.
    for (name, most) in [
        ("begin", 90),
        ("slot", 60),
        ("next_due", 150),
        ("account_state", 60),
    ] {
        let count = calls.get(name).copied().unwrap_or(0);
        assert!(count <= most, "{name}: {calls:?}");
    }
    assert!(server.taken().len() >= 29);
}
