//! The promises that something makes no difference: two runs which differ only in it.

use std::time::Duration;

use super::history::{Entry, What};
use super::invariants::{Breach, Invariant, breaches};
use super::scenario::{Act, Scenario, Twist};
use super::world::{rules, run};

/// By how much the times of two quiet runs may differ: a look at the disk here or there.
const SLACK: Duration = Duration::from_secs(5);

/// Everything that is wrong with how the keeper gets through a storm, the first first.
pub(super) fn weather(scenario: &Scenario) -> Vec<Breach> {
    let history = run(scenario);
    let mut found = breaches(&history, &rules(scenario));
    let impatient = |act: &Act| {
        matches!(
            act,
            Act::Call {
                patience: Some(_),
                ..
            }
        )
    };
    // One in four: it takes a second run.
    if scenario.seed.is_multiple_of(4) && scenario.has(impatient) {
        found.extend(dropped_callers(&history, scenario));
    }
    found.sort_by_key(|breach| breach.at);
    found
}

/// Everything that is wrong with a quiet run, the first first.
pub(super) fn quiet(scenario: &Scenario, twist: Twist) -> Vec<Breach> {
    let history = run(scenario);
    let mut found = breaches(&history, &rules(scenario));
    match twist {
        Twist::Jump => found.extend(clock_jump(&history, scenario)),
        Twist::Impatience => found.extend(dropped_callers(&history, scenario)),
        Twist::OldRefusals => found.extend(old_invalidation(&history, scenario)),
    }
    found.sort_by_key(|breach| breach.at);
    found
}

/// 7: whether callers stay makes no difference to what is asked, kept and in the end.
fn dropped_callers(history: &[Entry], scenario: &Scenario) -> Option<Breach> {
    let lasting = |entry: &&Entry| {
        matches!(
            entry.what,
            What::Asked { .. } | What::Decided { .. } | What::Saved { .. } | What::Ends { .. }
        )
    };
    let patient = run(&scenario.with_patience());
    let mut patient = patient.iter().filter(lasting);
    let mut dropped = history.iter().filter(lasting);
    loop {
        let (one, other) = (dropped.next(), patient.next());
        if one.is_none() && other.is_none() {
            return None;
        }
        let same = one
            .zip(other)
            .is_some_and(|(one, other)| one.what == other.what && one.at == other.at);
        if !same {
            let earlier = one.map(|entry| entry.at).min(other.map(|entry| entry.at));
            let at = earlier.or(one.or(other).map(|entry| entry.at));
            return Some(Breach {
                invariant: Invariant::DroppedCallers,
                at: at.unwrap_or_default(),
                how: format!("{one:?}, but {other:?} if nobody leaves"),
            });
        }
    }
}

/// 10: a jump of the clock costs one refresh of a grant at most.
fn clock_jump(history: &[Entry], scenario: &Scenario) -> Vec<Breach> {
    let jumped = |entry: &Entry| matches!(entry.what, What::Jumped(_));
    let Some(at) = history
        .iter()
        .find(|entry| jumped(entry))
        .map(|entry| entry.at)
    else {
        return Vec::new();
    };
    let steady = run(&scenario.without(|act| matches!(act, Act::Jump { .. })));
    let mut found = Vec::new();
    for (grant, plan) in scenario.grants.iter().enumerate() {
        // Less than the time to the first moment at which a new token can be due.
        let window = at..at + plan.terms.lifetime * 7 / 20;
        let count = |history: &[Entry]| {
            let asked = requests(history, grant);
            asked.filter(|at| window.contains(at)).count()
        };
        let (jumpy, steady) = (count(history), count(&steady));
        if jumpy > steady + 1 {
            found.push(Breach {
                invariant: Invariant::ClockJumps,
                at,
                how: format!("{jumpy} requests for grant {grant} instead of {steady}"),
            });
        }
    }
    found
}

/// 11: a refusal of a token that was replaced makes no difference.
fn old_invalidation(history: &[Entry], scenario: &Scenario) -> Option<Breach> {
    let spared = run(&scenario.without(|act| matches!(act, Act::Refuse { old: true, .. })));
    (0..scenario.grants.len()).find_map(|grant| {
        let mut refused = requests(history, grant);
        let mut spared = requests(&spared, grant);
        loop {
            let (one, other) = (refused.next(), spared.next());
            let same = one
                .zip(other)
                .is_some_and(|(one, other)| one.abs_diff(other) < SLACK);
            if !same && one.or(other).is_some() {
                return Some(Breach {
                    invariant: Invariant::OldInvalidation,
                    at: one.or(other).unwrap_or_default(),
                    how: format!("grant {grant} asked for at {one:?} instead of {other:?}"),
                });
            }
            one?;
        }
    })
}

fn requests(history: &[Entry], of: usize) -> impl Iterator<Item = Duration> {
    history.iter().filter_map(move |entry| match entry.what {
        What::Asked { grant, .. } if grant == of => Some(entry.at),
        _ => None,
    })
}
