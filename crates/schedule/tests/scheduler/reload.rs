//! Generations of scripts that replace each other while schedules run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use postrider_schedule::{Draft, Missed, Overlap, Plan, ScheduleError, WhyLeftOut};

use crate::support::{Host, World, cron, hours, minutes, seconds, time};

#[test]
fn nothing_of_a_draft_runs_before_it_is_installed() {
    let world = World::new();
    let host = world.host();
    let draft = host.scheduler.generation();
    let handle = draft
        .add(host.work(Some("pulse"), Plan::Every(minutes(1))).schedule())
        .unwrap();
    handle.run_now().unwrap();
    world.pass(&[&host], minutes(3));
    assert_eq!(host.log.count(), 0);
    assert!(host.scheduler.is_empty());
    assert_eq!(host.scheduler.list(), []);

    host.scheduler.install(&draft);
    world.pass(&[&host], minutes(2));
    assert!(host.log.count() >= 3, "{:?}", host.log.slots());
}

#[test]
fn a_draft_that_is_dropped_changes_nothing() {
    let world = World::new();
    let host = world.host();
    let make = |draft: &Draft, span| {
        draft
            .add(host.work(Some("pulse"), Plan::Every(span)).schedule())
            .unwrap();
    };
    let first = host.scheduler.generation();
    make(&first, minutes(1));
    host.scheduler.install(&first);
    world.pass(&[&host], seconds(90));

    let second = host.scheduler.generation();
    make(&second, hours(1));
    drop(second);
    world.pass(&[&host], minutes(2));

    assert_eq!(host.log.slots(), [60, 120, 180]);
    assert_eq!(host.scheduler.list()[0].plan, "every 1m");
}

#[test]
fn a_new_plan_of_the_same_name_starts_anew_and_keeps_its_history() {
    let world = World::new();
    let host = world.host();
    host.add(host.work(Some("pulse"), Plan::Every(minutes(1))).schedule())
        .unwrap();
    world.pass(&[&host], seconds(150));
    host.pause("pulse").unwrap();

    let draft = host.scheduler.generation();
    let handle = draft
        .add(
            host.work(Some("pulse"), Plan::Every(minutes(10)))
                .schedule(),
        )
        .unwrap();
    host.scheduler.install(&draft);
    host.settle();

    let standing = &host.scheduler.list()[0];
    assert!(standing.paused);
    assert_eq!(standing.runs, 2);
    host.resume("pulse").unwrap();
    assert_eq!(handle.next(), Some(time("2026-03-02T00:12:30Z")));
    world.pass(&[&host], minutes(15));
    assert_eq!(host.log.slots(), [60, 120, 750]);
    // Scripts of the old generation have no say any more.
    assert_eq!(
        draft
            .add(host.work(Some("pulse"), Plan::Every(minutes(1))).schedule())
            .unwrap_err(),
        ScheduleError::Duplicate {
            name: "pulse".to_owned(),
            first: "report.lua:1".to_owned(),
            second: "report.lua:1".to_owned(),
        }
    );
    host.scheduler.install(&host.scheduler.generation());
    assert_eq!(
        draft
            .add(host.work(None, Plan::Every(minutes(1))).schedule())
            .unwrap_err(),
        ScheduleError::Superseded
    );
    assert!(!handle.cancel());
}

#[test]
fn a_run_under_way_goes_on_and_does_not_overlap_with_the_next_generation() {
    let world = World::new();
    let host = world.host();
    let make = |draft: &Draft| {
        let work = host
            .work(Some("long"), Plan::Every(minutes(1)))
            .takes(seconds(90));
        draft.add(work.schedule()).unwrap();
    };
    let first = host.scheduler.generation();
    make(&first);
    host.scheduler.install(&first);
    world.pass(&[&host], seconds(70));
    let second = host.scheduler.generation();
    make(&second);
    host.scheduler.install(&second);
    world.pass(&[&host], seconds(120));

    assert_eq!(host.log.slots(), [60, 180]);
    assert_eq!(host.log.codes(), ["ok"]);
    assert_eq!(host.log.left_out(), [(1, WhyLeftOut::Overlap)]);
}

#[test]
fn a_run_of_the_old_plan_that_ends_later_says_nothing_of_the_new_one() {
    let world = World::new();
    let host = world.host();
    let old = host.work(Some("long"), Plan::Every(minutes(1)));
    host.add(old.takes(seconds(90)).schedule()).unwrap();
    world.pass(&[&host], seconds(70));
    let draft = host.scheduler.generation();
    let new = host.work(Some("long"), Plan::Every(minutes(10)));
    let handle = draft.add(new.schedule()).unwrap();
    host.scheduler.install(&draft);
    world.pass(&[&host], minutes(3));

    assert_eq!(host.log.codes(), ["ok"]);
    assert_eq!(handle.next(), Some(time("2026-03-02T00:11:10Z")));
    assert_eq!(world.kept()[0].next, handle.next());
    assert_eq!(world.kept()[0].plan, "every 10m");
}

#[test]
fn five_hundred_reloads_under_load_lose_no_slot_and_run_none_twice() {
    let world = World::new();
    let host = world.host();
    // Whoever is of a set that is gone must not run: the last set that may, and who did not heed.
    let in_force = Arc::new(AtomicU32::new(0));
    let stale = Arc::new(AtomicU32::new(0));
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for generation in 1..=500 {
        let draft = host.scheduler.generation();
        fill(&host, &draft, generation, &in_force, &stale);
        if next(5) == 0 {
            // It did not load: nothing changes.
            drop(draft);
        } else {
            // Something is due, or just begun, or not.
            world
                .clock
                .set(world.now() + Duration::from_millis(next(1500)));
            host.falter(u8::try_from(next(6)).unwrap());
            in_force.store(generation, Ordering::SeqCst);
            host.scheduler.install(&draft);
        }
        world.pass(&[&host], Duration::from_millis(next(2500)));
        if next(20) == 0 {
            host.pause("other").unwrap();
            host.resume("other").unwrap();
        }
    }
    world.pass(&[&host], minutes(1));
    let now = world.now();

    assert_eq!(stale.load(Ordering::SeqCst), 0);
    for name in ["queue", "allow", "minute"] {
        let slots: Vec<_> = slots(&host, name);
        let once: BTreeSet<_> = slots.iter().copied().collect();
        assert_eq!(slots.len(), once.len(), "{name}");
        let step = if name == "minute" { 60 } else { 1 };
        let passed = now.duration_since(time(crate::support::START)).as_secs();
        assert_eq!(i64::try_from(once.len()).unwrap(), passed / step, "{name}");
    }
    // Where runs may not overlap each slot was run or left out.
    let slots = slots(&host, "skip");
    let once: BTreeSet<_> = slots.iter().copied().collect();
    assert_eq!(slots.len(), once.len());
    let left_out = host.log.left_out_of("skip");
    let passed = now.duration_since(time(crate::support::START)).as_secs();
    assert_eq!(
        slots.len() as u64 + u64::from(left_out),
        u64::try_from(passed).unwrap()
    );
    assert_eq!(host.log.trouble(), [""; 0]);
    assert!(host.log.codes().iter().all(|code| code == "ok"));
    assert_eq!(host.scheduler.list().len(), 6);
}

fn fill(
    host: &Host,
    draft: &Draft,
    generation: u32,
    in_force: &Arc<AtomicU32>,
    stale: &Arc<AtomicU32>,
) {
    let second = || Plan::Every(seconds(1));
    let minute = cron("* * * * *", "Europe/Paris");
    for (name, plan, overlap, takes) in [
        ("queue", second(), Overlap::Queue, 300),
        ("allow", second(), Overlap::Allow, 2500),
        ("skip", second(), Overlap::Skip, 1700),
        ("minute", minute, Overlap::Queue, 700),
        ("other", Plan::Every(seconds(3)), Overlap::Skip, 0),
    ] {
        let work = host
            .work(Some(name), plan)
            .takes(Duration::from_millis(takes));
        let work = work.overlap(overlap).missed(Missed::All);
        draft.add(work.schedule()).unwrap();
    }
    let (in_force, stale) = (Arc::clone(in_force), Arc::clone(stale));
    let work = host.work(None, second()).ends(move |_| {
        if in_force.load(Ordering::SeqCst) != generation {
            stale.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    draft.add(work.schedule()).unwrap();
}

fn slots(host: &Host, name: &str) -> Vec<jiff::Timestamp> {
    let runs = host.log.runs().into_iter();
    let of_it = runs.filter(|run| run.name.as_deref() == Some(name));
    of_it.map(|run| run.scheduled_at).collect()
}
