//! The thirteen promises, over runs that nobody thought of.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::invariants::Breach;
use super::scenario::{Scenario, Twist, quiet, storm};
use super::twins;
use super::world::run;

/// Runs through everything that can go wrong.
pub(super) const STORMS: u32 = 200;
/// Quiet runs of each kind.
pub(super) const QUIET_RUNS: u32 = 60;

/// Runs of one kind, unless `POSTRIDER_KEEPER_CASES` says how many.
fn cases(usual: u32) -> u32 {
    let wished = std::env::var("POSTRIDER_KEEPER_CASES").ok();
    wished.map_or(usual, |number| {
        number.parse().expect("POSTRIDER_KEEPER_CASES is a number")
    })
}

/// Chance that is the same each time, unless `POSTRIDER_KEEPER_SEED` says otherwise.
fn chance() -> TestRng {
    let wished = std::env::var("POSTRIDER_KEEPER_SEED").unwrap_or_default();
    let mut seed = *b"the keeper keeps what it is told";
    for (octet, wish) in seed.iter_mut().zip(wished.bytes()) {
        *octet = wish;
    }
    TestRng::from_seed(RngAlgorithm::ChaCha, &seed)
}

/// Puts the keeper through `cases` runs; the breaches of the first bad one, and what it was.
pub(super) fn search(
    runs: impl Strategy<Value = Scenario>,
    cases: u32,
    shrink: bool,
    examine: impl Fn(&Scenario) -> Vec<Breach>,
) -> Result<(), String> {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: if shrink { 1000 } else { 0 },
        max_shrink_time: 15_000,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, chance())
        .run(&runs, |scenario| {
            let found = examine(&scenario);
            match found.first() {
                Some(first) => Err(TestCaseError::fail(story(&scenario, first))),
                None => Ok(()),
            }
        })
        .map_err(|failure| failure.to_string())
}

/// What went before a breach.
fn story(scenario: &Scenario, breach: &Breach) -> String {
    let history = run(scenario);
    let until = history.partition_point(|entry| entry.at <= breach.at);
    let mut story = String::new();
    for entry in &history[until.saturating_sub(40)..until] {
        let _ = writeln!(story, "{:>12.3?} {:?}", entry.at, entry.what);
    }
    format!("{breach:?}, after\n{story}")
}

fn holds(
    runs: impl Strategy<Value = Scenario>,
    usual: u32,
    examine: impl Fn(&Scenario) -> Vec<Breach>,
) {
    if let Err(failure) = search(runs, cases(usual), true, examine) {
        panic!("{failure}");
    }
}

#[test]
fn every_promise_is_kept_in_a_storm() {
    holds(storm(), STORMS, twins::weather);
}

#[test]
fn a_jump_of_the_clock_costs_one_refresh_at_most() {
    holds(quiet(Twist::Jump), QUIET_RUNS, |run| {
        twins::quiet(run, Twist::Jump)
    });
}

#[test]
fn callers_who_leave_change_nothing() {
    holds(quiet(Twist::Impatience), QUIET_RUNS, |run| {
        twins::quiet(run, Twist::Impatience)
    });
}

#[test]
fn a_refusal_of_an_old_token_changes_nothing() {
    holds(quiet(Twist::OldRefusals), QUIET_RUNS, |run| {
        twins::quiet(run, Twist::OldRefusals)
    });
}
