//! Delivery without a daemon.

use std::time::Duration;

use postrider_delivery::{Flush, Flushed};

use crate::support::{Closed, Say, World};

async fn flush(world: &World, flush: Flush) -> Flushed {
    let delivery = world.delivery();
    let running = tokio::spawn(async move { delivery.flush(flush).await });
    world
        .until(Duration::from_hours(1), |_| running.is_finished())
        .await;
    running.await.unwrap().unwrap()
}

#[tokio::test]
async fn a_flush_ends_when_nothing_is_due_any_more() {
    let world = World::new();
    let server = world.server("alerts");
    server.limit(|limits| limits.pace.per_minute = Some(30));
    server.say_once([
        Say::No("451 4.3.2 Temporary server error"),
        Say::No("550 5.1.1 No"),
    ]);
    for number in 0..50 {
        world.queue("alerts", &format!("m{number}")).await;
    }
    let away = world.server("away");
    away.close(Closed::Away);
    world.queue("away", "a").await;
    let flushed = flush(&world, Flush::default()).await;
    // What was put off was due again when the next minute had come.
    assert_eq!(
        (flushed.delivered, flushed.failed, flushed.deferred),
        (49, 1, 1)
    );
    let (until, why) = &flushed.waiting["away"];
    assert!(*until > crate::support::start());
    assert!(why.starts_with("away: "), "{why}");
    assert_eq!(flushed.waiting.len(), 1);
}

#[tokio::test]
async fn a_flush_of_one_account_now_takes_what_was_put_off_and_leaves_the_others_alone() {
    let world = World::new();
    let (alerts, other) = (world.server("alerts"), world.server("other"));
    alerts.close(Closed::NoToken);
    world.queue("alerts", "m").await;
    world.queue("other", "o").await;
    let only = Flush {
        account: Some("alerts".to_owned()),
        now: false,
    };
    let flushed = flush(&world, only.clone()).await;
    assert!(flushed.waiting.contains_key("alerts"));
    alerts.open();
    alerts.say_once([Say::No("451 4.3.2 Temporary server error")]);
    // It is parked still.
    assert_eq!(flush(&world, only.clone()).await.deferred, 0);
    let now = Flush { now: true, ..only };
    assert_eq!(flush(&world, now.clone()).await.deferred, 1);
    assert_eq!(flush(&world, now).await.delivered, 1);
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn an_empty_queue_is_flushed_at_once() {
    let world = World::new();
    assert_eq!(flush(&world, Flush::default()).await, Flushed::default());
    assert_eq!(world.now(), crate::support::start());
}
