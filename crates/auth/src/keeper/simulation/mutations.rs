//! Each promise broken on purpose, once, and found out: by its own check, and before any
//! other notices.

use std::cell::RefCell;

use proptest::prelude::*;

use super::invariants::{Breach, Invariant};
use super::properties::search;
use super::scenario::{Scenario, Twist, quiet, storm};
use super::twins;
use crate::keeper::mutation::Mutation;

/// Makes the mistake until somebody notices. What is noticed first must be `expected`.
fn found_out(
    mutation: Mutation,
    expected: Invariant,
    cases: u32,
    runs: impl Strategy<Value = Scenario>,
    examine: impl Fn(&Scenario) -> Vec<Breach>,
) {
    let first = RefCell::new(None);
    let outcome = mutation.make(|| {
        search(runs, cases, false, |scenario| {
            let found = examine(scenario);
            *first.borrow_mut() = found.first().cloned();
            found
        })
    });
    assert!(
        outcome.is_err(),
        "{mutation:?} went unnoticed in {cases} runs"
    );
    let first = first.into_inner().expect("a breach");
    assert_eq!(first.invariant, expected, "{mutation:?} shows as {first:?}");
}

/// The mistakes that show in a storm, against those who are to notice.
fn in_a_storm(mutation: Mutation, expected: Invariant) {
    found_out(
        mutation,
        expected,
        super::properties::STORMS,
        storm(),
        twins::weather,
    );
}

fn in_quiet(mutation: Mutation, expected: Invariant, twist: Twist) {
    let cases = super::properties::QUIET_RUNS;
    found_out(mutation, expected, cases, quiet(twist), |scenario| {
        twins::quiet(scenario, twist)
    });
}

#[test]
fn invariant_1_finds_out_who_ignores_the_lock() {
    in_a_storm(Mutation::IgnoresTheLock, Invariant::OneRequest);
}

#[test]
fn invariant_2_finds_out_who_serves_tokens_to_their_end() {
    in_a_storm(Mutation::HasNoFloor, Invariant::Floor);
}

#[test]
fn invariant_3_finds_out_who_publishes_before_it_is_safe() {
    in_a_storm(Mutation::PublishesFirst, Invariant::DurableFirst);
}

#[test]
fn invariant_4_finds_out_who_tries_a_superseded_token_for_ever() {
    in_a_storm(Mutation::TriesForEver, Invariant::SupersededOnce);
}

#[test]
fn invariant_5_finds_out_who_counts_anew() {
    in_a_storm(Mutation::CountsAnew, Invariant::Generations);
}

#[test]
fn invariant_6_finds_out_who_asks_in_vain() {
    in_a_storm(Mutation::AsksInVain, Invariant::RetiredIsSilent);
}

#[test]
fn invariant_7_finds_out_who_flies_for_callers_only() {
    let impatience = Twist::Impatience;
    in_quiet(
        Mutation::FliesForCallers,
        Invariant::DroppedCallers,
        impatience,
    );
}

#[test]
fn invariant_8_finds_out_who_holds_a_good_token_back() {
    in_a_storm(Mutation::HoldsBack, Invariant::ServedMeanwhile);
}

#[test]
fn invariant_9_finds_out_who_takes_no_turns() {
    in_a_storm(Mutation::TakesNoTurns, Invariant::Caps);
}

#[test]
fn invariant_10_finds_out_whose_time_never_goes_back() {
    in_quiet(Mutation::NeverGoesBack, Invariant::ClockJumps, Twist::Jump);
}

#[test]
fn invariant_11_finds_out_who_blames_the_newest_token() {
    let refusals = Twist::OldRefusals;
    in_quiet(
        Mutation::BlamesTheNewest,
        Invariant::OldInvalidation,
        refusals,
    );
}

#[test]
fn invariant_12_finds_out_who_logs_tokens() {
    in_a_storm(Mutation::LogsTokens, Invariant::Canaries);
}

#[test]
fn invariant_13_finds_out_who_takes_nonsense_for_a_no() {
    in_a_storm(Mutation::TakesNonsenseForNo, Invariant::Recovery);
}
