//! A server that is away.

use std::time::Duration;

use postrider_spool::{Pace, Priority, StateKind};

use crate::support::{Arrival, Closed, Say, World, message};

#[tokio::test]
async fn after_36_hours_away_all_arrives_by_priority_and_within_the_limits() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.limit(|limits| {
        limits.pace = Pace {
            per_minute: Some(30),
            recipients_per_day: Some(10_000),
        };
    });
    server.close(Closed::Away);
    world.run();
    let priorities = [Priority::Low, Priority::Normal, Priority::High];
    for hour in 0..36 {
        for priority in priorities {
            let mut message = message("alerts", &format!("{}-{hour}", priority.name()));
            message.priority = priority;
            world.queue_message(message).await;
        }
        world.stride = Duration::from_mins(2);
        world.pass(Duration::from_hours(1)).await;
    }
    assert_eq!(
        world.states().await.into_iter().collect::<Vec<_>>(),
        [(StateKind::Queued, 108)]
    );
    // One probe every quarter of an hour, not one for each message.
    assert!(server.connections() < 36 * 6, "{}", server.connections());

    server.open();
    world.stride = Duration::ZERO;
    world.until_done(Duration::from_mins(30)).await;
    assert_eq!(server.busiest_minute(), 30);
    assert!(server.most_open() <= 3);
    let taken = server.taken();
    assert_eq!(taken.len(), 108);
    // Strictly by priority, but that one start in eight is for what has waited longest.
    let rank = |arrival: &Arrival| match &arrival.message_id[1..3] {
        "hi" => 0,
        "no" => 1,
        _ => 2,
    };
    let early = taken[..36]
        .iter()
        .filter(|arrival| rank(arrival) == 0)
        .count();
    assert!(early >= 30, "{early} of the first 36 are urgent");
    let attempts = world.heard.moved_to(StateKind::Delivered);
    assert!(attempts.iter().all(|transition| transition.attempts == 1));
}

#[tokio::test]
async fn a_connection_that_breaks_at_once_is_the_servers_trouble_and_later_the_messages() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.limit(|limits| limits.window = 1);
    // The server stumbles over one message whenever it comes.
    server.say(|outgoing| {
        if outgoing.message_id().contains("poison") {
            Say::LoseBefore
        } else {
            Say::Yes
        }
    });
    world.queue("alerts", "poison").await;
    for number in 0..20 {
        world.queue("alerts", &format!("m{number}")).await;
    }
    world.run();
    world
        .until(Duration::from_mins(5), |_| server.taken().len() == 20)
        .await;
    world.stride = Duration::from_mins(2);
    world.pass(Duration::from_hours(24)).await;
    let deferred = world.heard.moved_to(StateKind::Deferred);
    assert!((8..20).contains(&deferred.len()), "{}", deferred.len());
}

#[tokio::test]
async fn a_session_that_the_server_ends_early_is_followed_by_another() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.limit(|limits| (limits.sessions, limits.window) = (1, 1));
    server.ends_sessions_after(7);
    for number in 0..50 {
        world.queue("alerts", &format!("m{number}")).await;
    }
    world.run();
    let took = world.until_done(Duration::from_mins(5)).await;
    assert!(took < Duration::from_mins(1), "{took:?}");
    assert_eq!(server.taken().len(), 50);
    assert!(world.heard.notes().is_empty(), "{:?}", world.heard.notes());
}
