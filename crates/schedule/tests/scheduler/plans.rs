//! When runs begin, and what a handle does.

use postrider_schedule::{Options, Plan, Reason, ScheduleError};

use crate::support::{World, cron, hours, minutes, seconds, time};

#[test]
fn an_interval_runs_each_time_it_has_passed() {
    let world = World::new();
    let host = world.host();
    host.add(host.work(None, Plan::Every(minutes(5))).schedule())
        .unwrap();

    world.pass(&[&host], hours(1));

    let expected: Vec<i64> = (1..=12).map(|n| n * 300).collect();
    assert_eq!(host.log.slots(), expected);
    assert_eq!(host.log.began(), expected);
    assert_eq!(host.log.codes(), ["ok"; 12]);
    assert_eq!(host.log.left_out(), []);
}

#[test]
fn a_cron_plan_runs_when_the_wall_clock_says_so() {
    let world = World::new();
    let host = world.host();
    let plan = cron("0 8 * * mon-fri", "Europe/Paris");
    host.add(host.work(Some("daily"), plan).schedule()).unwrap();

    world.pass(&[&host], hours(24 * 7));

    let expected: Vec<i64> = (0..5).map(|day| day * 86_400 + 7 * 3600).collect();
    assert_eq!(host.log.began(), expected);
    let next = host.scheduler.list()[0].next;
    assert_eq!(next, Some(time("2026-03-09T07:00:00Z")));
}

#[test]
fn what_runs_once_runs_once_and_then_nothing_is_left() {
    let world = World::new();
    let host = world.host();
    let at = host.work(None, Plan::At(time("2026-03-02T10:00:00.000000500Z")));
    let after = host.work(None, Plan::After(seconds(30)));
    host.add(at.schedule()).unwrap();
    host.add(after.schedule()).unwrap();
    let finished = host.spawn({
        let scheduler = host.scheduler.clone();
        async move { scheduler.finished().await }
    });

    world.pass(&[&host], hours(9));
    assert_eq!(host.log.began(), [30]);
    assert!(!finished.is_finished());
    assert!(!host.scheduler.is_empty());
    world.pass(&[&host], hours(24));

    assert_eq!(host.log.slots(), [30, 36_000]);
    assert!(finished.is_finished());
    assert!(host.scheduler.is_empty());
    assert_eq!(host.scheduler.list(), []);
}

#[test]
fn a_named_plan_that_runs_once_does_so_once_for_its_name() {
    let world = World::new();
    let plan = Plan::At(time("2026-03-02T10:00:00.000000500Z"));
    let host = world.host();
    host.add(host.work(Some("launch"), plan.clone()).schedule())
        .unwrap();
    world.pass(&[&host], hours(11));
    assert_eq!(host.log.count(), 1);
    drop(host);

    let host = world.host();
    host.add(host.work(Some("launch"), plan).schedule())
        .unwrap();
    world.pass(&[&host], hours(11));

    assert_eq!(host.log.count(), 0);
    assert!(host.scheduler.is_empty());
}

#[test]
fn a_time_that_is_over_is_refused() {
    let world = World::new();
    let host = world.host();
    for name in [None, Some("launch")] {
        let work = host.work(name, Plan::At(world.now()));
        let error = host.add(work.schedule()).unwrap_err();
        assert_eq!(error, ScheduleError::Past(world.now()));
    }
}

#[test]
fn jitter_delays_each_slot_by_a_span_of_its_own_that_a_restart_does_not_change() {
    let began = |parts: u64| {
        let world = World::new();
        let mut began = Vec::new();
        for _ in 0..parts {
            let host = world.host();
            let mut work = host.work(Some("spread"), Plan::Every(minutes(10)));
            work.options.jitter = minutes(5);
            host.add(work.schedule()).unwrap();
            world.pass(&[&host], hours(10) / u32::try_from(parts).unwrap());
            began.extend(host.log.began());
        }
        began
    };

    let runs = began(1);

    assert_eq!(runs.len(), 59 + usize::from(runs.last() > Some(&35_999)));
    let late: Vec<i64> = (1..).zip(&runs).map(|(n, began)| began - n * 600).collect();
    assert!(late.iter().all(|late| (0..=300).contains(late)), "{late:?}");
    let mut different = late.clone();
    different.sort_unstable();
    different.dedup();
    assert!(different.len() > 40, "{late:?}");
    // Restarts come at whole hours, some within a slot's jitter.
    assert_eq!(began(10), runs);
}

#[test]
fn jitter_never_carries_a_run_past_the_next_slot() {
    let world = World::new();
    let host = world.host();
    let mut work = host.work(None, Plan::Every(minutes(1)));
    work.options.jitter = hours(1);
    host.add(work.schedule()).unwrap();

    world.pass(&[&host], minutes(30));

    let slots: Vec<i64> = (1..).take(host.log.count()).map(|n| n * 60).collect();
    assert!(slots.len() >= 28, "{slots:?}");
    assert_eq!(host.log.slots(), slots);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let world = World::new();
    let host = world.host();
    let add = |plan: Plan, change: &dyn Fn(&mut Options)| {
        let mut work = host.work(Some("x"), plan);
        change(&mut work.options);
        host.add(work.schedule()).unwrap_err().to_string()
    };
    let minute = Plan::Every(minutes(1));
    assert_eq!(
        add(Plan::Every(seconds(0)), &|_| {}),
        "an interval is one second or more"
    );
    assert_eq!(
        add(Plan::After(hours(24 * 5000)), &|_| {}),
        "ten years are the longest to wait"
    );
    assert_eq!(
        add(minute.clone(), &|options| options.name =
            Some(" a".to_owned())),
        "a name has 1 to 100 printable characters and no space at its ends"
    );
    assert_eq!(
        add(minute.clone(), &|options| options.timeout =
            Some(seconds(0))),
        "a time-out of nothing lets nothing run"
    );
    assert_eq!(
        add(minute.clone(), &|options| options.retry.attempts = 101),
        "a run is tried again a hundred times at most"
    );
    assert_eq!(host.scheduler.list(), []);

    host.add(host.work(Some("x"), minute.clone()).schedule())
        .unwrap();
    let error = host
        .add(host.work(Some("x"), minute).schedule())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "two schedules are called \"x\": report.lua:1 and report.lua:1"
    );
}

#[test]
fn a_handle_tells_and_cancels_its_schedule() {
    let world = World::new();
    let host = world.host();
    let work = host.work(None, Plan::Every(minutes(1))).takes(seconds(10));
    let handle = host.add(work.schedule()).unwrap();
    assert_eq!(handle.name(), None);
    assert_eq!(handle.next(), Some(time("2026-03-02T00:01:00Z")));
    assert_eq!(handle.last(), None);

    world.pass(&[&host], seconds(65));
    assert_eq!(handle.last(), None);
    world.pass(&[&host], seconds(60));
    assert_eq!(handle.next(), Some(time("2026-03-02T00:03:00Z")));
    let last = handle.last().unwrap();
    assert_eq!(last.started_at, time("2026-03-02T00:01:00Z"));
    assert_eq!(last.took(), seconds(10));

    // The second run is under way: it goes on.
    assert!(handle.cancel());
    assert!(!handle.cancel());
    assert_eq!(handle.next(), None);
    assert!(handle.run_now().is_err());
    world.pass(&[&host], minutes(5));
    assert_eq!(host.log.slots(), [60, 120]);
    assert_eq!(host.log.codes(), ["ok", "ok"]);
    assert!(host.scheduler.is_empty());
}

#[test]
fn a_named_schedule_that_is_cancelled_and_made_again_goes_on_where_it_was() {
    let world = World::new();
    let host = world.host();
    let make = || {
        let work = host.work(Some("pulse"), Plan::Every(minutes(10)));
        host.add(work.schedule()).unwrap()
    };
    let handle = make();
    world.pass(&[&host], minutes(15));
    assert!(handle.cancel());
    world.pass(&[&host], minutes(2));
    let again = make();
    assert_eq!(again.next(), Some(time("2026-03-02T00:20:00Z")));
    assert!(!handle.cancel() || again.next().is_none());
}

#[test]
fn run_now_runs_beside_the_plan() {
    let world = World::new();
    let host = world.host();
    let work = host
        .work(Some("pulse"), Plan::Every(minutes(10)))
        .takes(seconds(30));
    let handle = host.add(work.schedule()).unwrap();
    world.pass(&[&host], minutes(3));

    host.scheduler.run_now("pulse").unwrap();
    world.pass(&[&host], seconds(10));
    // It does not run beside itself unless it may.
    assert_eq!(
        handle.run_now().unwrap_err(),
        ScheduleError::Running("pulse".to_owned())
    );
    world.pass_until(&[&host], time("2026-03-02T00:11:00Z"));

    assert_eq!(host.log.slots(), [180, 600]);
    let reasons: Vec<Reason> = host.log.runs().iter().map(|run| run.reason).collect();
    assert_eq!(reasons, [Reason::Manual, Reason::Tick]);
    assert_eq!(
        host.scheduler.run_now("impulse").unwrap_err().to_string(),
        "there is no schedule \"impulse\""
    );
}
