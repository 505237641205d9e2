//! What no script has any more is forgotten after ninety days, and nothing else is.

use jiff::Timestamp;
use postrider_schedule::{KEPT, Plan, Store as _};

use crate::support::{World, cron, hours, minutes};

fn names(world: &World) -> Vec<String> {
    let kept = world.kept().into_iter();
    kept.filter_map(|standing| standing.name).collect()
}

#[test]
fn a_name_that_no_script_has_is_forgotten_with_its_history_after_ninety_days() {
    let world = World::new();
    let host = world.host();
    let gone = host.work(Some("gone"), Plan::Every(hours(1)));
    host.add(gone.schedule()).unwrap();
    world.pass(&[&host], hours(3));
    host.pause("gone").unwrap();
    drop(host);

    // Another process, whose one time comes once a year.
    let host = world.host();
    let rare = host.work(Some("rare"), cron("0 0 1 1 *", "UTC"));
    host.add(rare.schedule()).unwrap();
    world.pass(&[&host], KEPT.saturating_sub(hours(30)));
    assert_eq!(names(&world), ["gone", "rare"]);
    assert_eq!(world.store.history("gone", 10).unwrap().len(), 3);
    world.pass(&[&host], hours(48));
    assert_eq!(names(&world), ["rare"]);
    assert!(world.store.history("gone", 10).unwrap().is_empty());

    // Who has it says so each day, or another process would forget it.
    world.pass(&[&host], KEPT * 2);
    assert_eq!(names(&world), ["rare"]);
    let other = world.host();
    let other_work = other.work(Some("other"), Plan::Every(hours(24)));
    other.add(other_work.schedule()).unwrap();
    world.pass(&[&host, &other], hours(1));
    assert_eq!(names(&world), ["other", "rare"]);
}

#[test]
fn what_was_seen_by_a_clock_that_was_ahead_is_not_kept_for_ever() {
    let world = World::new();
    let start = world.now();
    let ahead: Timestamp = "2036-01-01T00:00:00Z".parse().unwrap();
    world.clock.set(ahead);
    let host = world.host();
    let gone = host.work(Some("gone"), Plan::Every(hours(1)));
    host.add(gone.schedule()).unwrap();
    host.settle();
    drop(host);

    world.clock.set(start);
    let host = world.host();
    let here = host.work(Some("here"), cron("0 0 1 1 *", "UTC"));
    host.add(here.schedule()).unwrap();
    world.pass(&[&host], minutes(1));
    assert_eq!(names(&world), ["gone", "here"]);
    world.pass(&[&host], KEPT + hours(48));
    assert_eq!(names(&world), ["here"]);
}
