//! A store that fails stops nothing, is not asked all the time, and loses nothing.

use postrider_schedule::{Missed, Plan, Reason, Store as _, StoreErrorKind};

use crate::support::{World, hours, minutes, seconds, time};

const TROUBLE: &str = "schedules.db: it fails; schedules go on from memory until it works again";
const RECOVERED: &str = "the store of schedules works again";

#[test]
fn schedules_go_on_from_memory_and_what_they_did_is_written_later() {
    let world = World::new();
    let host = world.host();
    let every = host.work(Some("pulse"), Plan::Every(minutes(1)));
    host.scheduler.add(every.schedule()).unwrap();
    world.pass(&[&host], minutes(3));
    assert_eq!(host.log.slots(), [60, 120, 180]);

    world.store.fail(Some(StoreErrorKind::Full));
    world.pass(&[&host], minutes(5));

    assert_eq!(host.log.slots(), [60, 120, 180, 240, 300, 360, 420, 480]);
    assert_eq!(host.log.trouble(), [TROUBLE]);
    // Twice a minute and no more.
    assert!(world.store.tries() <= 12, "{}", world.store.tries());
    let runs = |limit| host.scheduler.history("pulse", limit).unwrap().len();
    assert_eq!(runs(100), 5);

    world.store.fail(None);
    world.pass(&[&host], seconds(45));

    assert_eq!(host.log.trouble(), [TROUBLE, RECOVERED]);
    assert_eq!(runs(100), 8);
    let kept = world.kept();
    assert_eq!((kept[0].runs, kept[0].failures, kept[0].running), (8, 0, 0));
    // Another process goes on where this one was.
    drop(host);
    let next = world.host();
    let every = next.work(Some("pulse"), Plan::Every(minutes(1)));
    next.scheduler.add(every.schedule()).unwrap();
    world.pass(&[&next], minutes(2));
    assert_eq!(next.log.slots(), [540, 600]);
    assert_eq!(next.log.runs()[0].reason, Reason::Tick);
}

#[test]
fn a_store_that_fails_again_and_again_is_told_of_each_time_it_changes() {
    let world = World::new();
    let host = world.host();
    let every = host.work(Some("pulse"), Plan::Every(seconds(10)));
    host.scheduler.add(every.schedule()).unwrap();
    for _ in 0..3 {
        world.store.fail(Some(StoreErrorKind::ReadOnly));
        world.pass(&[&host], hours(1));
        world.store.fail(None);
        world.pass(&[&host], hours(1));
    }
    let told = [TROUBLE, RECOVERED].repeat(3);
    assert_eq!(host.log.trouble(), told);
    assert_eq!(host.log.count(), 6 * 360);
    let standing = &world.kept()[0];
    assert_eq!(standing.runs, 6 * 360);
}

#[test]
fn a_store_that_others_hold_for_a_moment_is_no_trouble() {
    let world = World::new();
    let host = world.host();
    let every = host.work(Some("pulse"), Plan::Every(minutes(1)));
    host.scheduler.add(every.schedule()).unwrap();
    world.pass(&[&host], seconds(59));

    world.store.fail(Some(StoreErrorKind::Busy));
    world.pass(&[&host], seconds(4));
    assert_eq!(host.log.count(), 0);
    world.store.fail(None);
    world.pass(&[&host], seconds(2));
    assert_eq!(host.log.slots(), [60]);
    assert_eq!(host.log.trouble(), [""; 0]);

    // Somebody who never lets go is.
    world.store.fail(Some(StoreErrorKind::Busy));
    world.pass(&[&host], minutes(1));
    assert_eq!(host.log.slots(), [60, 120]);
    assert_eq!(host.log.trouble(), [TROUBLE]);
}

#[test]
fn a_run_that_ends_while_the_store_is_busy_is_recorded_as_it_ended() {
    let world = World::new();
    let host = world.host();
    let every = host
        .work(Some("long"), Plan::Every(minutes(10)))
        .takes(minutes(2));
    host.scheduler.add(every.schedule()).unwrap();
    world.pass(&[&host], seconds(11 * 60 + 59));
    world.store.fail(Some(StoreErrorKind::Busy));
    world.pass(&[&host], seconds(3));
    world.store.fail(None);
    world.pass(&[&host], minutes(2));

    assert_eq!(host.log.codes(), ["ok"]);
    let history = host.scheduler.history("long", 10).unwrap();
    assert_eq!(history.len(), 1);
    assert!(history[0].result.is_ok());
    assert_eq!(history[0].took(), minutes(2));
}

#[test]
fn a_run_that_spans_the_failure_ends_once() {
    let world = World::new();
    let host = world.host();
    let every = host
        .work(Some("long"), Plan::Every(minutes(10)))
        .takes(minutes(6));
    host.scheduler.add(every.schedule()).unwrap();
    world.pass(&[&host], minutes(11));
    // Begun with the store, ended without it.
    world.store.fail(Some(StoreErrorKind::Io));
    world.pass(&[&host], minutes(10));
    // Begun without it, ended with it.
    world.store.fail(None);
    world.pass(&[&host], minutes(8));

    assert_eq!(host.log.slots(), [600, 1200]);
    assert_eq!(host.log.codes(), ["ok", "ok"]);
    let history = world.store.history("long", 10).unwrap();
    assert_eq!(history.len(), 2);
    assert!(history.iter().all(|run| run.result.is_ok()));
    let standing = &world.kept()[0];
    assert_eq!(
        (standing.runs, standing.failures, standing.running),
        (2, 0, 0)
    );
}

#[test]
fn what_was_missed_before_a_start_without_the_store_is_made_up_for_when_it_works() {
    let world = World::new();
    let host = world.host();
    let daily = |host: &crate::support::Host| {
        let plan = crate::support::cron("0 8 * * *", "UTC");
        host.work(Some("daily"), plan)
            .missed(Missed::Once)
            .schedule()
    };
    host.scheduler.add(daily(&host)).unwrap();
    world.pass(&[&host], hours(7));
    drop(host);
    world.store.fail(Some(StoreErrorKind::Io));
    world.clock.set(time("2026-03-02T09:00:00Z"));

    let host = world.host();
    host.scheduler.add(daily(&host)).unwrap();
    world.pass(&[&host], minutes(5));
    assert_eq!(host.log.count(), 0);
    world.store.fail(None);
    world.pass(&[&host], minutes(1));

    assert_eq!(host.log.slots(), [8 * 3600]);
    assert_eq!(host.log.runs()[0].reason, Reason::Missed);
    world.pass(&[&host], hours(24));
    assert_eq!(host.log.slots(), [8 * 3600, 32 * 3600]);
}

#[test]
fn a_process_that_stops_writes_what_only_memory_knows() {
    let world = World::new();
    let host = world.host();
    let every = host.work(Some("pulse"), Plan::Every(minutes(1)));
    host.scheduler.add(every.schedule()).unwrap();
    host.settle();
    world.store.fail(Some(StoreErrorKind::Io));
    world.pass(&[&host], seconds(125));
    host.scheduler.pause("pulse").unwrap();
    world.store.fail(None);

    assert_eq!(host.block_on(host.scheduler.drain(seconds(1))), 0);

    let standing = &world.kept()[0];
    assert_eq!(standing.runs, 2);
    assert!(standing.paused);
}

#[test]
fn what_another_process_did_meanwhile_stays() {
    let world = World::new();
    let first = world.host();
    let second = world.host();
    for host in [&first, &second] {
        let every = host.work(Some("pulse"), Plan::Every(minutes(1)));
        host.scheduler.add(every.schedule()).unwrap();
    }
    world.pass(&[&first, &second], minutes(2));
    // Only the first one meets the failure.
    world.store.fail(Some(StoreErrorKind::Io));
    first.scheduler.run_now("pulse").unwrap();
    first.settle();
    world.store.fail(None);
    second.scheduler.run_now("pulse").unwrap();
    second.settle();
    second.scheduler.pause("pulse").unwrap();
    world.pass(&[&first, &second], minutes(1));

    let standing = &world.kept()[0];
    assert!(standing.paused);
    let runs = first.log.count() + second.log.count();
    assert_eq!(standing.runs, runs as u64);
    let history = world.store.history("pulse", 100).unwrap();
    assert_eq!(history.len(), runs);
}
