//! The nights when clocks change, through the scheduler.

use crate::support::{World, cron, time};

/// When `expression` runs in `zone` from `from` to `until`, as that wall clock shows it.
fn runs(expression: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
    let world = World::new();
    world.clock.set(time(from));
    let host = world.host();
    let plan = cron(expression, zone);
    host.add(host.work(Some("night"), plan).schedule()).unwrap();
    world.pass_until(&[&host], time(until));
    let zone = postrider_schedule::time_zone(zone).unwrap();
    let shown = |(at, _): (String, _)| {
        let at = time(&at).to_zoned(zone.clone());
        at.strftime("%d %H:%M %:z").to_string()
    };
    assert_eq!(host.log.left_out(), []);
    host.log.times().into_iter().map(shown).collect()
}

#[test]
fn a_time_of_day_comes_once_a_day_in_paris() {
    // 02:00 → 03:00 on 29 March 2026.
    assert_eq!(
        runs(
            "30 2 * * *",
            "Europe/Paris",
            "2026-03-27T12:00:00Z",
            "2026-03-30T12:00:00Z"
        ),
        ["28 02:30 +01:00", "29 03:00 +02:00", "30 02:30 +02:00"]
    );
    // 03:00 → 02:00 on 25 October 2026.
    assert_eq!(
        runs(
            "30 2 * * *",
            "Europe/Paris",
            "2026-10-23T12:00:00Z",
            "2026-10-26T12:00:00Z"
        ),
        ["24 02:30 +02:00", "25 02:30 +02:00", "26 02:30 +01:00"]
    );
}

#[test]
fn a_time_of_day_comes_once_a_day_in_new_york() {
    // 02:00 → 03:00 on 8 March 2026, 02:00 → 01:00 on 1 November.
    assert_eq!(
        runs(
            "15 2 * * *",
            "America/New_York",
            "2026-03-06T12:00:00Z",
            "2026-03-09T12:00:00Z"
        ),
        ["07 02:15 -05:00", "08 03:00 -04:00", "09 02:15 -04:00"]
    );
    assert_eq!(
        runs(
            "15 1 * * *",
            "America/New_York",
            "2026-10-30T12:00:00Z",
            "2026-11-02T12:00:00Z"
        ),
        ["31 01:15 -04:00", "01 01:15 -04:00", "02 01:15 -05:00"]
    );
}

#[test]
fn half_an_hour_is_changed_at_lord_howe() {
    // 02:00 → 02:30 on 4 October 2026, 02:00 → 01:30 on 5 April.
    assert_eq!(
        runs(
            "10 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-02T12:00:00Z",
            "2026-10-05T12:00:00Z"
        ),
        ["03 02:10 +10:30", "04 02:30 +11:00", "05 02:10 +11:00"]
    );
    assert_eq!(
        runs(
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-03T12:00:00Z",
            "2026-04-06T12:00:00Z"
        ),
        ["04 01:45 +11:00", "05 01:45 +11:00", "06 01:45 +10:30"]
    );
}

#[test]
fn every_quarter_of_an_hour_stays_one() {
    // The night of 25 October has 25 hours in Paris.
    let runs = runs(
        "*/15 * * * *",
        "Europe/Paris",
        "2026-10-24T22:00:00Z",
        "2026-10-25T23:00:00Z",
    );
    assert_eq!(runs.len(), 100);
    assert_eq!(
        runs[8..12].to_vec(),
        [
            "25 02:15 +02:00",
            "25 02:30 +02:00",
            "25 02:45 +02:00",
            "25 02:00 +01:00",
        ]
    );
}
