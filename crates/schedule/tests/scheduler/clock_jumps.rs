//! The clock is set by an hour either way, and the machine sleeps.

use postrider_schedule::{Missed, Overlap, Plan, Reason, WhyLeftOut};

use crate::support::{World, cron, hours, minutes, seconds, time};

#[test]
fn a_clock_set_forward_by_an_hour_follows_the_policy() {
    for (policy, after) in [
        (Missed::Skip, vec![4500]),
        (Missed::Once, vec![4500]),
        (
            Missed::All,
            vec![
                1200, 1500, 1800, 2100, 2400, 2700, 3000, 3300, 3600, 3900, 4200, 4500,
            ],
        ),
    ] {
        let world = World::new();
        let host = world.host();
        for plan in [Plan::Every(minutes(5)), cron("*/5 * * * *", "Europe/Paris")] {
            host.add(host.work(None, plan).missed(policy).schedule())
                .unwrap();
        }
        world.pass(&[&host], minutes(16));
        assert_eq!(host.log.count(), 6);

        world.jump(&[&host], world.now() + hours(1));

        // Both, and the slot of 01:15 is on time.
        let mut slots = host.log.slots().split_off(6);
        slots.sort_unstable();
        let expected: Vec<i64> = after.iter().flat_map(|slot| [*slot, *slot]).collect();
        assert_eq!(slots, expected, "{policy:?}");
        let missed: u32 = host.log.runs().iter().map(|run| run.missed).sum();
        assert_eq!(
            missed,
            match policy {
                Missed::Skip => 0,
                Missed::Once | Missed::All => 22,
            }
        );
        world.pass(&[&host], minutes(5));
        let slots = host.log.slots();
        assert_eq!(slots[slots.len() - 2..], [4800, 4800]);
    }
}

#[test]
fn a_wall_clock_plan_runs_no_slot_twice_when_the_clock_is_set_back_by_an_hour() {
    let world = World::new();
    let host = world.host();
    let plan = cron("*/5 * * * *", "UTC");
    host.add(host.work(Some("wall"), plan).schedule()).unwrap();
    world.pass(&[&host], minutes(91));
    assert_eq!(host.log.count(), 18);

    world.jump(&[&host], world.now() - hours(1));
    world.pass(&[&host], minutes(59));
    assert_eq!(host.log.count(), 18);
    world.pass(&[&host], minutes(11));

    let expected: Vec<i64> = (1..=20).map(|n| n * 300).collect();
    assert_eq!(host.log.slots(), expected);
    assert_eq!(host.log.left_out(), []);
}

#[test]
fn an_interval_counts_from_the_time_a_clock_was_set_back_to() {
    let world = World::new();
    let host = world.host();
    host.add(host.work(Some("often"), Plan::Every(minutes(5))).schedule())
        .unwrap();
    world.pass(&[&host], minutes(91));

    world.jump(&[&host], world.now() - hours(1));
    world.pass(&[&host], minutes(16));

    // Three more, five minutes apart, the first after one interval.
    assert_eq!(host.log.count(), 18 + 3);
    let began = host.log.began().split_off(18);
    assert_eq!(began, [36 * 60, 41 * 60, 46 * 60]);
}

#[test]
fn a_clock_that_is_set_back_wakes_the_scheduler() {
    let world = World::new();
    let host = world.host();
    host.add(host.work(Some("often"), Plan::Every(minutes(5))).schedule())
        .unwrap();
    world.pass(&[&host], minutes(91));

    world.clock.set(time("2026-03-02T00:31:00Z"));
    // Nobody asks it for anything: it must notice by itself.
    host.breathe();

    assert_eq!(world.clock.next_wake(), Some(time("2026-03-02T00:36:00Z")));
}

#[test]
fn a_timer_ends_when_a_clock_was_set_back_before_its_start() {
    let world = World::new();
    let host = world.host();
    host.add(host.work(None, Plan::After(seconds(30))).schedule())
        .unwrap();
    host.settle();
    world.jump(&[&host], world.now() - hours(1));
    world.pass(&[&host], minutes(2));
    assert_eq!(host.log.count(), 1);
    world.pass(&[&host], hours(2));
    assert_eq!(host.log.count(), 1);
}

#[test]
fn a_clock_that_was_wrong_by_days_is_believed_when_it_is_put_right() {
    let world = World::new();
    let host = world.host();
    let plan = cron("0 8 * * *", "UTC");
    host.add(host.work(Some("daily"), plan).schedule()).unwrap();
    world.pass(&[&host], hours(9));
    // Somebody sets it to the next month, and back an hour later.
    world.jump(&[&host], time("2026-04-02T08:30:00Z"));
    world.pass(&[&host], hours(1));
    assert_eq!(host.log.count(), 2);
    world.jump(&[&host], time("2026-03-02T10:00:00Z"));
    world.pass(&[&host], hours(48));

    let times: Vec<String> = host.log.times().into_iter().map(|(at, _)| at).collect();
    assert_eq!(
        times,
        [
            "2026-03-02T08:00:00Z",
            "2026-04-02T08:30:00Z",
            "2026-03-03T08:00:00Z",
            "2026-03-04T08:00:00Z",
        ]
    );
}

#[test]
fn a_machine_that_slept_for_eight_hours_follows_the_policy() {
    for (policy, runs, left_out) in [
        (Missed::Skip, 0, vec![(1, WhyLeftOut::Missed(Missed::Skip))]),
        (Missed::Once, 1, vec![(1, WhyLeftOut::Missed(Missed::Once))]),
        (Missed::All, 1, vec![]),
    ] {
        let world = World::new();
        let host = world.host();
        let plan = cron("0 3 * * *", "UTC");
        host.add(host.work(Some("nightly"), plan).missed(policy).schedule())
            .unwrap();
        world.pass(&[&host], minutes(30));

        world.jump(&[&host], world.now() + hours(8));

        assert_eq!(host.log.count(), runs, "{policy:?}");
        assert!(
            host.log
                .runs()
                .iter()
                .all(|run| run.reason == Reason::Missed)
        );
        assert_eq!(host.log.left_out(), left_out);
        world.pass(&[&host], hours(24));
        assert_eq!(host.log.count(), runs + 1);
        assert_eq!(*host.log.slots().last().unwrap(), 27 * 3600);
    }
}

#[test]
fn a_run_that_slept_with_the_machine_is_one_run() {
    let world = World::new();
    let host = world.host();
    let work = host
        .work(Some("long"), cron("0 * * * *", "UTC"))
        .takes(minutes(10));
    host.add(work.schedule()).unwrap();
    world.pass(&[&host], minutes(65));
    assert_eq!(host.scheduler.list()[0].running, 1);

    world.jump(&[&host], world.now() + hours(8));
    world.pass(&[&host], minutes(1));

    let history = host.history("long", 10).unwrap();
    assert_eq!(host.log.codes()[0], "ok");
    assert!(history.iter().all(|run| run.result.is_ok()), "{history:?}");
    let slots = host.log.slots();
    let mut once = slots.clone();
    once.dedup();
    assert_eq!(slots, once);
}

#[test]
fn a_retry_does_not_wait_for_days_when_the_clock_was_ahead_by_them() {
    let world = World::new();
    let host = world.host();
    let mut work = host.work(Some("often"), Plan::Every(hours(1)));
    work.options.retry.attempts = 1;
    work.options.retry.backoff = minutes(10);
    let work = work.ends(|run| {
        if run.attempt == 1 {
            Err(crate::support::failure("smtp.later"))
        } else {
            Ok(())
        }
    });
    host.add(work.schedule()).unwrap();
    world.jump(&[&host], time("2026-04-02T00:00:00Z"));
    world.pass(&[&host], seconds(1));
    assert_eq!(host.log.codes(), ["smtp.later"]);

    world.jump(&[&host], time("2026-03-02T00:30:00Z"));

    assert_eq!(host.log.codes(), ["smtp.later", "ok"]);
}

#[test]
fn a_slot_that_is_under_way_is_not_begun_beside_itself_when_the_clock_is_set_back() {
    let world = World::new();
    let host = world.host();
    let work = host
        .work(Some("wall"), cron("0 8 * * *", "UTC"))
        .takes(hours(6));
    host.add(work.overlap(Overlap::Allow).schedule()).unwrap();
    world.pass(&[&host], hours(8) + minutes(5));
    world.jump(&[&host], time("2026-03-02T03:00:00Z"));
    world.pass(&[&host], hours(6));
    assert_eq!(host.log.count(), 1);
}
