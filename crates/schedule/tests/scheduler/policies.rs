//! What becomes of slots while a run is under way, while nobody watched, while it is paused, and
//! of runs that fail.

use postrider_schedule::{
    Missed, Overlap, Plan, Reason, Retry, ScheduleError, StoreErrorKind, WhyLeftOut,
};

use crate::support::{Host, World, cron, failure, hours, minutes, seconds, time};

/// Runs of 150 s each minute for ten minutes.
fn overlapping(overlap: Overlap) -> (World, Host) {
    let world = World::new();
    let host = world.host();
    let work = host.work(Some("long"), Plan::Every(minutes(1)));
    let work = work.takes(seconds(150)).overlap(overlap);
    host.add(work.schedule()).unwrap();
    world.pass(&[&host], minutes(10));
    (world, host)
}

#[test]
fn a_slot_during_a_run_is_left_out() {
    let (_world, host) = overlapping(Overlap::Skip);
    assert_eq!(host.log.slots(), [60, 240, 420, 600]);
    assert_eq!(host.log.began(), [60, 240, 420, 600]);
    assert_eq!(host.log.left_out(), [(1, WhyLeftOut::Overlap); 6]);
}

#[test]
fn a_slot_during_a_run_waits_in_the_queue() {
    let (world, host) = overlapping(Overlap::Queue);
    assert_eq!(host.log.slots(), [60, 120, 180, 240]);
    assert_eq!(host.log.began(), [60, 210, 360, 510]);
    assert_eq!(host.log.left_out(), []);
    assert_eq!(host.scheduler.list()[0].running, 1);

    // A hundred wait, the oldest are left out.
    world.pass(&[&host], hours(5));
    let slots = host.log.slots();
    assert_eq!(host.log.count(), (5 * 3600 + 600 - 60) / 150 + 1);
    assert!(slots.is_sorted());
    let left_out = host.log.left_out().len();
    let came = (5 * 60) + 10;
    assert_eq!(left_out + slots.len() + 100, came);
}

#[test]
fn runs_that_may_overlap_do() {
    let (_world, host) = overlapping(Overlap::Allow);
    let every: Vec<i64> = (1..=10).map(|n| n * 60).collect();
    assert_eq!(host.log.began(), every);
    assert_eq!(host.scheduler.list()[0].running, 3);
}

#[test]
fn at_most_sixty_four_runs_overlap() {
    let world = World::new();
    let host = world.host();
    let work = host.work(None, Plan::Every(seconds(1)));
    let work = work.takes(seconds(100)).overlap(Overlap::Allow);
    host.add(work.schedule()).unwrap();
    world.pass(&[&host], seconds(90));
    assert_eq!(host.scheduler.list()[0].running, 64);
    assert_eq!(host.log.count(), 64);
}

/// A host runs until 00:03:30, nobody from then to 00:10:30, and another until 00:12.
fn missing(missed: Missed) -> (World, Host) {
    let world = World::new();
    let host = world.host();
    let make = |host: &Host| {
        let work = host
            .work(Some("pulse"), Plan::Every(minutes(1)))
            .missed(missed);
        host.add(work.schedule()).unwrap();
    };
    make(&host);
    world.pass(&[&host], seconds(210));
    assert_eq!(host.log.slots(), [60, 120, 180]);
    drop(host);
    world.clock.set(time("2026-03-02T00:10:30Z"));
    let host = world.host();
    make(&host);
    world.pass_until(&[&host], time("2026-03-02T00:12:00Z"));
    (world, host)
}

#[test]
fn missed_slots_are_left_out() {
    let (_world, host) = missing(Missed::Skip);
    // The one of 00:10 is half a minute late, not missed.
    assert_eq!(host.log.slots(), [600, 660, 720]);
    assert_eq!(host.log.runs()[0].reason, Reason::Tick);
    assert_eq!(host.log.runs()[0].missed, 0);
    assert_eq!(host.log.left_out(), [(6, WhyLeftOut::Missed(Missed::Skip))]);
}

#[test]
fn one_run_stands_for_all_missed_slots() {
    let (_world, host) = missing(Missed::Once);
    assert_eq!(host.log.slots(), [600, 660, 720]);
    assert_eq!(host.log.runs()[0].missed, 6);
    assert_eq!(host.log.runs()[1].missed, 0);
    assert_eq!(host.log.left_out(), [(6, WhyLeftOut::Missed(Missed::Once))]);
}

#[test]
fn each_missed_slot_is_run_one_after_the_other() {
    let (_world, host) = missing(Missed::All);
    assert_eq!(
        host.log.slots(),
        [240, 300, 360, 420, 480, 540, 600, 660, 720]
    );
    assert_eq!(host.log.began()[..7], [630; 7]);
    let reasons: Vec<Reason> = host.log.runs().iter().map(|run| run.reason).collect();
    assert_eq!(reasons[..6], [Reason::Missed; 6]);
    assert_eq!(reasons[6..], [Reason::Tick; 3]);
    assert_eq!(host.log.left_out(), []);
}

#[test]
fn of_many_thousand_missed_slots_the_latest_thousand_are_run() {
    let world = World::new();
    for _ in 0..2 {
        let host = world.host();
        let work = host
            .work(Some("pulse"), Plan::Every(seconds(1)))
            .missed(Missed::All);
        host.add(work.schedule()).unwrap();
        world.pass(&[&host], seconds(1));
        if host.log.count() > 1 {
            // And one that came since.
            assert_eq!(host.log.count(), 1001);
            assert_eq!(*host.log.slots().last().unwrap(), 90 * 86_400 + 2);
            return;
        }
        drop(host);
        world.clock.set(world.now() + hours(24 * 90));
    }
    panic!("nothing was made up for");
}

#[test]
fn a_run_that_takes_too_long_is_ended() {
    let world = World::new();
    let host = world.host();
    let mut work = host
        .work(Some("long"), Plan::Every(minutes(10)))
        .takes(minutes(5));
    work.options.timeout = Some(seconds(90));
    host.add(work.schedule()).unwrap();
    world.pass(&[&host], minutes(12));

    assert_eq!(host.log.codes(), ["schedule.timeout"]);
    let outcome = &host.log.outcomes()[0];
    assert_eq!(outcome.took(), seconds(90));
    let error = outcome.result.clone().unwrap_err();
    assert_eq!(error.message, "the run took longer than 90 s");
    assert_eq!(error.at.as_deref(), Some("report.lua:1"));
    assert_eq!(host.scheduler.list()[0].running, 0);
    world.pass(&[&host], minutes(9));
    assert_eq!(host.log.count(), 2);
}

#[test]
fn a_run_that_failed_is_tried_again_ever_later_and_a_success_ends_that() {
    let world = World::new();
    let host = world.host();
    let mut work = host.work(Some("report"), cron("0 8 * * *", "UTC"));
    work.options.retry = Retry {
        attempts: 3,
        backoff: seconds(60),
        longest: hours(1),
    };
    let work = work.ends(|run| {
        if run.attempt < 3 {
            Err(failure("smtp.later"))
        } else {
            Ok(())
        }
    });
    host.add(work.schedule()).unwrap();

    world.pass(&[&host], hours(9));

    assert_eq!(host.log.codes(), ["smtp.later", "smtp.later", "ok"]);
    let runs = host.log.runs();
    let tried: Vec<_> = runs.iter().map(|run| (run.attempt, run.reason)).collect();
    assert_eq!(
        tried,
        [(1, Reason::Tick), (2, Reason::Retry), (3, Reason::Retry)]
    );
    assert!(
        runs.iter()
            .all(|run| run.scheduled_at == time("2026-03-02T08:00:00Z"))
    );
    let began = host.log.began();
    assert!((60..=75).contains(&(began[1] - began[0])), "{began:?}");
    assert!((120..=150).contains(&(began[2] - began[1])), "{began:?}");
    let told: Vec<bool> = host
        .log
        .outcomes()
        .iter()
        .map(|o| o.retry_at.is_some())
        .collect();
    assert_eq!(told, [true, true, false]);
    let standing = &host.scheduler.list()[0];
    assert_eq!((standing.runs, standing.failures), (3, 2));
}

#[test]
fn retries_end_when_there_were_enough_or_the_next_slot_comes() {
    let world = World::new();
    let host = world.host();
    let mut work = host.work(Some("report"), Plan::Every(hours(1)));
    work.options.retry = Retry {
        attempts: 2,
        backoff: seconds(60),
        longest: hours(1),
    };
    host.add(work.ends(|_| Err(failure("x"))).schedule())
        .unwrap();
    world.pass(&[&host], minutes(119));
    let attempts: Vec<u32> = host.log.runs().iter().map(|run| run.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);

    let host = world.host();
    let mut work = host.work(Some("often"), Plan::Every(minutes(1)));
    work.options.retry = Retry {
        attempts: 9,
        backoff: seconds(90),
        longest: hours(1),
    };
    host.add(work.ends(|_| Err(failure("x"))).schedule())
        .unwrap();
    world.pass(&[&host], minutes(10));
    let attempts: Vec<u32> = host.log.runs().iter().map(|run| run.attempt).collect();
    assert_eq!(attempts, [1; 10]);
}

#[test]
fn a_retry_outlives_the_process() {
    let world = World::new();
    let make = |host: &Host| {
        let mut work = host.work(Some("report"), cron("0 8 * * *", "UTC"));
        work.options.retry = Retry {
            attempts: 3,
            backoff: minutes(20),
            longest: hours(1),
        };
        let work = work.ends(|run| {
            if run.attempt == 1 {
                Err(failure("smtp.later"))
            } else {
                Ok(())
            }
        });
        host.add(work.schedule()).unwrap();
    };
    let host = world.host();
    make(&host);
    world.pass(&[&host], hours(8) + minutes(1));
    assert_eq!(host.log.codes(), ["smtp.later"]);
    drop(host);

    let host = world.host();
    make(&host);
    world.pass(&[&host], hours(1));

    assert_eq!(host.log.codes(), ["ok"]);
    assert_eq!(host.log.runs()[0].attempt, 2);
    assert_eq!(host.log.slots(), [8 * 3600]);
}

#[test]
fn a_job_that_panics_fails_and_its_schedule_goes_on() {
    let world = World::new();
    let host = world.host();
    let work = host.work(Some("pulse"), Plan::Every(minutes(1)));
    let work = work.ends(|run| {
        assert!(
            run.scheduled_at != time("2026-03-02T00:02:00Z"),
            "a mistake"
        );
        Ok(())
    });
    host.add(work.schedule()).unwrap();

    world.pass(&[&host], minutes(3));

    assert_eq!(host.log.codes(), ["ok", "schedule.panicked", "ok"]);
    let error = host.log.outcomes()[1].result.clone().unwrap_err();
    assert_eq!(error.message, "the run panicked: a mistake");
    let standing = &host.scheduler.list()[0];
    assert_eq!(
        (standing.runs, standing.failures, standing.running),
        (3, 1, 0)
    );
}

#[test]
fn a_paused_schedule_runs_nothing_and_makes_up_for_nothing() {
    let world = World::new();
    let host = world.host();
    let work = host
        .work(Some("pulse"), Plan::Every(minutes(1)))
        .missed(Missed::All);
    host.add(work.schedule()).unwrap();
    world.pass(&[&host], minutes(2));
    host.pause("pulse").unwrap();
    world.pass(&[&host], minutes(30));
    assert_eq!(host.log.count(), 2);
    let standing = &host.scheduler.list()[0];
    assert!(standing.paused);
    assert_eq!(standing.next, None);

    // A restart does not resume it, and by hand it still runs.
    drop(host);
    let host = world.host();
    let work = host
        .work(Some("pulse"), Plan::Every(minutes(1)))
        .missed(Missed::All);
    host.add(work.schedule()).unwrap();
    world.pass(&[&host], minutes(5));
    assert_eq!(host.log.count(), 0);
    host.scheduler.run_now("pulse").unwrap();
    host.settle();
    assert_eq!(host.log.count(), 1);

    host.resume("pulse").unwrap();
    world.pass(&[&host], minutes(2));
    assert_eq!(host.log.slots(), [37 * 60, 38 * 60, 39 * 60]);
    assert_eq!(host.log.left_out(), []);
    assert_eq!(
        host.pause("impulse").unwrap_err(),
        ScheduleError::Unknown("impulse".to_owned())
    );
}

#[test]
fn another_process_pauses_it_too() {
    let world = World::new();
    let host = world.host();
    host.add(host.work(Some("pulse"), Plan::Every(minutes(1))).schedule())
        .unwrap();
    world.pass(&[&host], minutes(2));
    let store: &dyn postrider_schedule::Store = world.store.as_ref();
    assert!(store.set_paused("pulse", true, world.now()).unwrap());
    assert!(!store.set_paused("impulse", true, world.now()).unwrap());
    world.pass(&[&host], minutes(5));
    assert_eq!(host.log.count(), 2);
    assert!(store.set_paused("pulse", false, world.now()).unwrap());
    world.pass(&[&host], minutes(3));
    assert_eq!(host.log.slots(), [60, 120, 480, 540, 600]);
}

#[test]
fn draining_waits_for_runs_and_ends_those_that_take_too_long() {
    for (takes, codes, ended) in [(20, "ok", 0), (60, "schedule.interrupted", 1)] {
        let world = World::new();
        let host = world.host();
        let work = host
            .work(Some("pulse"), Plan::Every(minutes(1)))
            .takes(seconds(takes));
        host.add(work.schedule()).unwrap();
        world.pass(&[&host], seconds(65));
        let drained = host.spawn({
            let scheduler = host.scheduler.clone();
            async move { scheduler.drain(seconds(30)).await }
        });
        world.pass(&[&host], seconds(5));
        assert!(!drained.is_finished());
        world.pass(&[&host], minutes(5));
        assert!(drained.is_finished());
        assert_eq!(host.block_on(drained).unwrap(), ended);
        assert_eq!(host.log.codes(), [codes]);
        assert_eq!(world.kept()[0].running, 0);
    }
}

#[test]
fn what_was_to_run_once_while_nobody_watched_is_made_up_for() {
    let world = World::new();
    let make = |host: &Host| {
        let work = host.work(Some("launch"), Plan::At(time("2026-03-02T10:00:00Z")));
        host.add(work.schedule()).unwrap();
    };
    let host = world.host();
    make(&host);
    world.pass(&[&host], hours(1));
    drop(host);
    world.clock.set(time("2026-03-02T12:00:00Z"));

    let host = world.host();
    make(&host);
    world.pass(&[&host], hours(1));

    assert_eq!(host.log.slots(), [36_000]);
    assert_eq!(host.log.runs()[0].reason, Reason::Missed);
    assert!(host.scheduler.is_empty());
}

#[test]
fn a_long_message_is_cut_for_the_history() {
    let world = World::new();
    let host = world.host();
    let work = host.work(Some("talks"), Plan::Every(minutes(1)));
    let work = work.ends(|_| {
        let mut error = failure("x");
        error.message = "\u{e9}".repeat(1_000_000);
        Err(error)
    });
    host.add(work.schedule()).unwrap();
    world.pass(&[&host], minutes(1));
    let error = host.history("talks", 1).unwrap()[0]
        .result
        .clone()
        .unwrap_err();
    assert_eq!(error.message.chars().count(), 1001);
    assert!(error.message.ends_with('…'));
}

#[test]
fn a_process_that_stops_does_not_wait_for_a_store_that_others_hold() {
    let world = World::new();
    let host = world.host();
    let work = host
        .work(Some("pulse"), Plan::Every(minutes(1)))
        .takes(seconds(20));
    host.add(work.schedule()).unwrap();
    world.pass(&[&host], seconds(65));
    world.store.fail(Some(StoreErrorKind::Busy));
    let drained = host.spawn({
        let scheduler = host.scheduler.clone();
        async move { scheduler.drain(seconds(5)).await }
    });
    world.pass(&[&host], seconds(5));
    assert!(drained.is_finished());
    assert_eq!(host.block_on(drained).unwrap(), 1);
}
