//! A store that fails stops nothing, is not asked all the time, and loses nothing.

use std::collections::BTreeSet;

use postrider_schedule::{
    Draft, HISTORY, Missed, Overlap, Plan, Reason, Store as _, StoreErrorKind,
};
use proptest::prelude::*;

use crate::support::{START, World, hours, minutes, seconds, time};

const TROUBLE: &str = "schedules.db: it fails; schedules go on from memory until it works again";
const RECOVERED: &str = "the store of schedules works again";

#[test]
fn schedules_go_on_from_memory_and_what_they_did_is_written_later() {
    let world = World::new();
    let host = world.host();
    let every = host.work(Some("pulse"), Plan::Every(minutes(1)));
    host.add(every.schedule()).unwrap();
    world.pass(&[&host], minutes(3));
    assert_eq!(host.log.slots(), [60, 120, 180]);

    world.store.fail(Some(StoreErrorKind::Full));
    world.pass(&[&host], minutes(5));

    assert_eq!(host.log.slots(), [60, 120, 180, 240, 300, 360, 420, 480]);
    assert_eq!(host.log.trouble(), [TROUBLE]);
    // Twice a minute and no more.
    assert!(world.store.tries() <= 12, "{}", world.store.tries());
    let runs = |limit| host.history("pulse", limit).unwrap().len();
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
    next.add(every.schedule()).unwrap();
    world.pass(&[&next], minutes(2));
    assert_eq!(next.log.slots(), [540, 600]);
    assert_eq!(next.log.runs()[0].reason, Reason::Tick);
}

#[test]
fn a_store_that_fails_again_and_again_is_told_of_each_time_it_changes() {
    let world = World::new();
    let host = world.host();
    let every = host.work(Some("pulse"), Plan::Every(seconds(10)));
    host.add(every.schedule()).unwrap();
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
    host.add(every.schedule()).unwrap();
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
    host.add(every.schedule()).unwrap();
    world.pass(&[&host], seconds(11 * 60 + 59));
    world.store.fail(Some(StoreErrorKind::Busy));
    world.pass(&[&host], seconds(3));
    world.store.fail(None);
    world.pass(&[&host], minutes(2));

    assert_eq!(host.log.codes(), ["ok"]);
    let history = host.history("long", 10).unwrap();
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
    host.add(every.schedule()).unwrap();
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
    host.add(daily(&host)).unwrap();
    world.pass(&[&host], hours(7));
    drop(host);
    world.store.fail(Some(StoreErrorKind::Io));
    world.clock.set(time("2026-03-02T09:00:00Z"));

    let host = world.host();
    host.add(daily(&host)).unwrap();
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
    host.add(every.schedule()).unwrap();
    host.settle();
    world.store.fail(Some(StoreErrorKind::Io));
    world.pass(&[&host], seconds(125));
    host.pause("pulse").unwrap();
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
        host.add(every.schedule()).unwrap();
    }
    world.pass(&[&first, &second], minutes(2));
    // Only the first one meets the failure.
    world.store.fail(Some(StoreErrorKind::Io));
    first.scheduler.run_now("pulse").unwrap();
    first.settle();
    world.store.fail(None);
    second.scheduler.run_now("pulse").unwrap();
    second.settle();
    second.pause("pulse").unwrap();
    world.pass(&[&first, &second], minutes(1));

    let standing = &world.kept()[0];
    assert!(standing.paused);
    let runs = first.log.count() + second.log.count();
    assert_eq!(standing.runs, runs as u64);
    let history = world.store.history("pulse", 100).unwrap();
    assert_eq!(history.len(), runs);
}

#[derive(Clone, Debug)]
enum Step {
    Fail(bool),
    Recover,
    Pass(u64),
    Jump(u64),
    RunNow,
    Pause(bool),
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<bool>().prop_map(Step::Fail),
        3 => Just(Step::Recover),
        5 => (1..1500_u64).prop_map(Step::Pass),
        1 => (1..5000_u64).prop_map(Step::Jump),
        1 => Just(Step::RunNow),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => Just(Step::Reload),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whenever_it_fails_and_recovers_no_slot_comes_twice_and_none_is_lost(
        steps in proptest::collection::vec(step(), 1..40)
    ) {
        let world = World::new();
        let host = world.host();
        let make = |draft: &Draft| {
            for name in ["all", "paused"] {
                let work = host.work(Some(name), crate::support::cron("*/5 * * * *", "UTC"));
                let work = work.takes(seconds(50)).missed(Missed::All).overlap(Overlap::Queue);
                draft.add(work.schedule()).unwrap();
            }
        };
        let draft = host.scheduler.generation();
        make(&draft);
        host.scheduler.install(&draft);
        for step in &steps {
            match step {
                Step::Fail(true) => world.store.fail(Some(StoreErrorKind::Full)),
                Step::Fail(false) => world.store.fail(Some(StoreErrorKind::Busy)),
                Step::Recover => world.store.fail(None),
                Step::Pass(span) => world.pass(&[&host], seconds(*span)),
                Step::Jump(span) => world.jump(&[&host], world.now() + seconds(*span)),
                Step::RunNow => drop(host.scheduler.run_now("paused")),
                // A store that is busy refuses.
                Step::Pause(true) => drop(host.pause("paused")),
                Step::Pause(false) => drop(host.resume("paused")),
                Step::Reload => {
                    let draft = host.scheduler.generation();
                    make(&draft);
                    host.scheduler.install(&draft);
                }
            }
        }
        world.store.fail(None);
        world.pass(&[&host], hours(3));

        let runs = host.log.runs();
        for name in ["all", "paused"] {
            let by_plan = runs.iter().filter(|run| {
                run.name.as_deref() == Some(name) && run.reason != Reason::Manual
            });
            let slots: Vec<_> = by_plan.map(|run| run.scheduled_at).collect();
            let once: BTreeSet<_> = slots.iter().collect();
            prop_assert_eq!(slots.len(), once.len(), "{}", name);
            if name == "all" {
                let passed = world.now().duration_since(time(START)).as_secs();
                prop_assert_eq!(once.len(), usize::try_from(passed / 300).unwrap());
            }
        }
        for standing in world.kept() {
            let name = standing.name.as_deref();
            let ended = host.log.outcomes().into_iter().filter(|run| run.name.as_deref() == name);
            let ended = ended.count();
            prop_assert_eq!(standing.runs, ended as u64, "{:?}", name);
            let history = world.store.history(name.unwrap(), HISTORY).unwrap();
            prop_assert_eq!(history.len(), ended.min(HISTORY));
        }
        let told = host.log.trouble();
        prop_assert!(told.iter().zip([TROUBLE, RECOVERED].iter().cycle()).all(|(a, b)| a == b));
        prop_assert!(told.len().is_multiple_of(2));
    }
}
