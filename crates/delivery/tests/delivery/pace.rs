//! Never more than the account may.

use std::collections::BTreeSet;
use std::time::Duration;

use postrider_delivery::OnUnknown;
use postrider_spool::{Pace, StateKind};

use crate::support::{Say, World, message, start};

const EXCHANGE: Pace = Pace {
    per_minute: Some(30),
    recipients_per_day: Some(10_000),
};

#[tokio::test]
async fn two_hundred_at_once_arrive_in_the_pace_and_on_the_sessions_allowed_across_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::on_disk(dir.path());
    world.policy.unknown = OnUnknown::Retry;
    let server = world.server("alerts");
    server.limit(|limits| limits.pace = EXCHANGE);
    for number in 0..200 {
        world.queue("alerts", &format!("m{number}")).await;
    }
    world.run();
    world
        .until(Duration::from_mins(10), |_| server.arrivals().len() >= 77)
        .await;
    world.kill().await;
    let mut world = world.reopened(dir.path());
    world.run();
    world.until_done(Duration::from_mins(20)).await;

    assert_eq!(world.states().await[&StateKind::Delivered], 200);
    assert!(server.busiest_minute() <= 30, "{}", server.busiest_minute());
    assert_eq!(server.most_open(), 3);
    let taken = server.taken();
    let names: BTreeSet<_> = taken.iter().map(|arrival| &arrival.message_id).collect();
    assert_eq!(names.len(), 200);
    // What the crash left in the middle may have arrived twice, and nothing else.
    let unknown = world.heard.moved_to(StateKind::Unknown).len();
    assert!(
        taken.len() <= 200 + unknown,
        "{} and {unknown}",
        taken.len()
    );
    world.stop().await;
}

#[tokio::test]
async fn the_days_recipients_are_the_bound_over_all() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.limit(|limits| {
        limits.pace.recipients_per_day = Some(20);
    });
    for number in 0..30 {
        world.queue("alerts", &format!("m{number}")).await;
    }
    world.run();
    world.pass(Duration::from_hours(1)).await;
    assert_eq!(server.taken().len(), 20);
    world.stride = Duration::from_mins(5);
    world.until_done(Duration::from_hours(26)).await;
    assert_eq!(server.taken().len(), 30);
}

#[tokio::test]
async fn one_session_is_enough_for_what_one_can_take() {
    let mut world = World::new();
    let server = world.server("alerts");
    for number in 0..10 {
        world.queue("alerts", &format!("m{number}")).await;
    }
    world.run();
    world.until_done(Duration::from_mins(1)).await;
    assert_eq!((server.connections(), server.most_open()), (1, 1));
}

#[tokio::test]
async fn a_quick_session_that_asks_for_one_at_a_time_does_not_begin_each_on_its_own() {
    for (takes, begins) in [(0, 5..20), (100, 40..50)] {
        let mut world = World::new();
        let server = world.server("alerts");
        server.limit(|limits| limits.sessions = 1);
        server.asks_for(1);
        server.takes(Duration::from_millis(takes));
        for number in 0..40 {
            world.queue("alerts", &format!("m{number}")).await;
        }
        world.store.take_calls();
        world.run();
        world.until_done(Duration::from_mins(1)).await;
        assert_eq!(server.taken().len(), 40);
        let calls = world.store.take_calls()["begin"];
        assert!(begins.contains(&calls), "{takes} ms: {calls}");
    }
}

#[tokio::test]
async fn what_was_begun_ahead_goes_back_when_the_server_asks_for_less() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.limit(|limits| limits.sessions = 1);
    server.asks_for(1);
    server.takes(Duration::ZERO);
    let mut count = 0;
    server.say(move |_| {
        count += 1;
        match count {
            // Four were begun at once after one and two.
            5 => Say::No("432 4.3.2 Concurrent connections limit exceeded."),
            _ => Say::Yes,
        }
    });
    for number in 0..20 {
        world.queue("alerts", &format!("m{number}")).await;
    }
    world.run();
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(server.arrivals().len(), 5);
    let states = world.states().await;
    assert_eq!(states.get(&StateKind::Sending), None);
    assert_eq!(states[&StateKind::Queued], 15);
    let untried = world.listed().await;
    let untried = untried.iter().filter(|message| message.attempts == 0);
    assert_eq!(untried.count(), 15);
    world.until_done(Duration::from_mins(5)).await;
    assert_eq!(server.taken().len(), 20);
}

#[tokio::test]
async fn a_session_that_its_route_keeps_open_counts_until_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::on_disk(dir.path());
    let server = world.server("alerts");
    server.limit(|limits| {
        limits.sessions = 1;
        limits.linger = Duration::from_mins(1);
    });
    world.queue("alerts", "first").await;
    world.run();
    world.until_done(Duration::from_mins(1)).await;
    let state = || async {
        let now = world.now();
        let state = postrider_spool::Store::account_state(&*world.store, "alerts", now);
        state.await.unwrap().sessions
    };
    assert_eq!(state().await, 1);
    world.pass(Duration::from_secs(30)).await;
    assert_eq!(state().await, 1);
    // The next message takes the same place.
    world.queue("alerts", "second").await;
    world.until_done(Duration::from_secs(5)).await;
    assert_eq!(state().await, 1);
    world.pass(Duration::from_mins(2)).await;
    assert_eq!(state().await, 0);
}

#[tokio::test]
async fn a_server_that_asks_for_less_gets_less_and_the_others_go_on() {
    let mut world = World::new();
    let (busy, other) = (world.server("busy"), world.server("other"));
    let mut refusals = 6;
    busy.say(move |_| {
        if refusals == 0 {
            return Say::Yes;
        }
        refusals -= 1;
        Say::No("432 4.3.2 Concurrent connections limit exceeded.")
    });
    for number in 0..40 {
        world.queue("busy", &format!("b{number}")).await;
        world.queue("other", &format!("o{number}")).await;
    }
    world.run();
    world
        .until(Duration::from_mins(2), |_| other.taken().len() == 40)
        .await;
    let elapsed = world.now().duration_since(start()).as_secs();
    assert!(elapsed <= 30, "{elapsed}");
    let took = world.until_done(Duration::from_hours(2)).await;

    assert_eq!(busy.taken().len(), 40);
    assert!(took < Duration::from_mins(30), "{took:?}");
    let notes = world.heard.notes();
    assert!(
        notes
            .iter()
            .all(|note| note.starts_with("paused busy slow 432")),
        "{notes:?}"
    );
    assert!(!notes.is_empty());
    assert!(world.heard.moved_to(StateKind::Failed).is_empty());
}

#[tokio::test]
async fn an_envelope_that_is_too_large_is_split_until_it_fits() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.say(|outgoing| {
        if outgoing.envelope().recipients.len() > 60 {
            Say::No("452 4.5.3 Too many recipients")
        } else {
            Say::Yes
        }
    });
    let mut message = message("alerts", "circular");
    message.recipients = (0..200)
        .map(|n| format!("r{n}@example.net").into())
        .collect();
    world.queue_message(message).await;
    world.run();
    let took = world.until_done(Duration::from_mins(5)).await;

    assert!(took < Duration::from_mins(1), "{took:?}");
    let taken = server.taken();
    let recipients: usize = taken.iter().map(|arrival| arrival.recipients.len()).sum();
    assert_eq!(recipients, 200);
    assert_eq!(server.envelopes().iter().max(), Some(&200));
}

#[tokio::test]
async fn recipients_that_the_server_did_not_take_in_one_envelope_follow_in_the_next() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.say_to(|outgoing, recipient| {
        let all = &outgoing.envelope().recipients;
        let place = all.iter().position(|one| one.to_string() == recipient);
        if place.unwrap() < 100 {
            Say::Yes
        } else {
            Say::No("452 4.5.3 Too many recipients")
        }
    });
    let mut message = message("alerts", "circular");
    message.recipients = (0..250)
        .map(|n| format!("r{n}@example.net").into())
        .collect();
    world.queue_message(message).await;
    world.run();
    world.until_done(Duration::from_mins(1)).await;
    let sizes: Vec<_> = server
        .taken()
        .iter()
        .map(|one| one.recipients.len())
        .collect();
    assert_eq!(sizes, [100, 100, 50]);
}

#[tokio::test]
async fn a_server_that_serves_two_sessions_and_turns_the_third_away_is_not_away() {
    let mut world = World::new();
    let server = world.server("alerts");
    server.has_room_for(2);
    for number in 0..200 {
        world.queue("alerts", &format!("m{number}")).await;
    }
    world.run();
    let took = world.until_done(Duration::from_hours(1)).await;
    assert!(took < Duration::from_mins(6), "{took:?}");
    let notes = world.heard.notes();
    assert!(
        notes
            .iter()
            .all(|note| note.starts_with("paused alerts slow ")),
        "{notes:?}"
    );
}
