//! Twelve hours of a provider that answers in every way but the right one.

use std::time::Duration;

use super::history::{Entry, What};
use super::invariants::breaches;
use super::provider::{Custom, Fault, Terms, Weather};
use super::scenario::{Act, Action, Grant, Process, Scenario};
use super::world::{rules, run};

const HOUR: Duration = Duration::from_hours(1);
/// The outage begins when the tokens have been renewed at least once.
const BEGIN: Duration = HOUR;
const END: Duration = Duration::from_hours(13);
const RETRY_AFTER: u64 = 400;

/// Two hours each: `invalid_request`, 401 and junk, 429, 500, a web page, nothing at all.
const PHASES: [Fault; 6] = [
    Fault::InvalidRequest,
    Fault::Junk,
    Fault::TooMany {
        retry_after: Some(RETRY_AFTER),
    },
    Fault::Broken,
    Fault::Html,
    Fault::Hang,
];

const CUSTOMS: [Custom; 5] = [
    Custom::AppOnly,
    Custom::Static,
    Custom::Lenient,
    Custom::Strict {
        grace: Duration::ZERO,
    },
    Custom::Strict {
        grace: Duration::from_secs(30),
    },
];

/// One process looks ahead, one only asks when it must; somebody wants every token every
/// five minutes.
fn twelve_hours(seed: u64) -> Scenario {
    let grant = |custom| Grant {
        terms: Terms {
            custom,
            lifetime: HOUR,
        },
        signed_in: true,
    };
    let mut from = BEGIN;
    let weather = PHASES.map(|fault| {
        let to = from + 2 * HOUR;
        let weather = Weather {
            from,
            to,
            grant: None,
            fault,
        };
        from = to;
        weather
    });
    let mut actions = Vec::new();
    for minute in (0..60 * 13).step_by(5) {
        for process in 0..2 {
            actions.extend((0..CUSTOMS.len()).map(|grant| Action {
                at: Duration::from_mins(minute),
                act: Act::Call {
                    process,
                    grant,
                    crowd: 1,
                    patience: None,
                },
            }));
        }
    }
    Scenario {
        seed,
        grants: CUSTOMS.map(grant).to_vec(),
        processes: [true, false]
            .map(|tends| Process {
                tends,
                ends: Vec::new(),
            })
            .to_vec(),
        weather: weather.to_vec(),
        actions,
        caps: (16, 10),
        until: END,
        recovery: Duration::from_mins(30),
    }
}

fn asked(history: &[Entry], of: usize) -> Vec<Duration> {
    let asked = history.iter().filter_map(|entry| match entry.what {
        What::Asked { grant, .. } if grant == of => Some(entry.at),
        _ => None,
    });
    asked.collect()
}

#[test]
fn after_twelve_hours_of_every_failure_mail_resumes_with_no_human() {
    let scenario = twelve_hours(12);
    let history = run(&scenario);
    assert_eq!(breaches(&history, &rules(&scenario)), []);

    for grant in 0..CUSTOMS.len() {
        let ends = history.iter().filter_map(|entry| match entry.what {
            What::Ends {
                grant: of, state, ..
            } => (of == grant).then_some(state),
            _ => None,
        });
        assert_eq!(ends.collect::<Vec<_>>(), ["fresh", "fresh"], "{grant}");

        let asked = asked(&history, grant);
        let during = asked.iter().filter(|at| (BEGIN..END).contains(*at)).count();
        // Pauses are of five minutes at most, by chance; 150 seconds are the mean.
        assert!((100..600).contains(&during), "{grant}: {during} requests");

        // Each phase is asked with growing pauses, and what a provider asks for is granted.
        let patient = BEGIN + 4 * HOUR..BEGIN + 6 * HOUR;
        let told = asked.windows(2).filter(|pair| patient.contains(&pair[0]));
        for pair in told {
            let pause = pair[1].saturating_sub(pair[0]);
            assert!(pause >= Duration::from_secs(RETRY_AFTER), "{pause:?}");
        }

        let resumed = history.iter().find_map(|entry| match entry.what {
            What::Saved {
                grant: of, record, ..
            } if of == grant && entry.at > END && !record.intent => Some(entry.at),
            _ => None,
        });
        let late = resumed.expect("it resumed").saturating_sub(END);
        assert!(late < Duration::from_secs(305), "{grant}: {late:?} late");
    }
    let signed_in = |entry: &Entry| matches!(entry.what, What::SignedIn { .. });
    let last = history.iter().rposition(signed_in).expect("at the start");
    assert!(history[last].at < Duration::from_secs(1), "no human");
}

#[test]
fn while_a_token_lives_an_outage_is_not_noticed() {
    let scenario = twelve_hours(13);
    let history = run(&scenario);
    let first_failure = history
        .iter()
        .find(|entry| matches!(entry.what, What::Failed { .. }));
    let first_failure = first_failure
        .expect("twelve hours are longer than a token lives")
        .at;
    // Renewed at three fifths of its life at the latest, served to its last minute.
    let least = BEGIN + Duration::from_mins(60 * 2 / 5 - 1);
    assert!(first_failure >= least, "{first_failure:?}");
}
