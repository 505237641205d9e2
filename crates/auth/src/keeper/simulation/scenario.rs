//! What a run is to be put through, as proptest invents it.

use std::ops::Range;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::provider::{Custom, Fault, Terms, Weather};

/// How long the troubles of a run last.
const TROUBLES: u64 = 3 * 3600;

/// The longest pauses that a provider may impose, one after the other, and a few attempts.
pub(super) const RECOVERY: Duration = Duration::from_mins(2 * 60 + 15);

/// What a run is put through.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    /// Chance of everything that is not said here: latencies, downtimes.
    pub(super) seed: u64,
    pub(super) grants: Vec<Grant>,
    pub(super) processes: Vec<Process>,
    pub(super) weather: Vec<Weather>,
    pub(super) actions: Vec<Action>,
    /// Caps of one process at the provider: at a time, and a second.
    pub(super) caps: (usize, u32),
    /// When the last trouble is over.
    pub(super) until: Duration,
    /// How long after that everything must be well.
    pub(super) recovery: Duration,
}

/// A grant of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub(super) terms: Terms,
    /// Whether somebody signed in before the run.
    pub(super) signed_in: bool,
}

/// A process of a run.
#[derive(Clone, Debug)]
pub(super) struct Process {
    /// Whether it refreshes ahead of need.
    pub(super) tends: bool,
    /// The step at which each of its lives ends, and whether what it does there is done.
    /// The life after these goes on.
    pub(super) ends: Vec<(u64, bool)>,
}

/// Something that somebody does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Action {
    pub(super) at: Duration,
    pub(super) act: Act,
}

/// What somebody does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// As many callers want a token of this grant from this process; they wait so long.
    Call {
        process: usize,
        grant: usize,
        crowd: u8,
        patience: Option<Duration>,
    },
    /// A mail server refuses the newest token, or one from before.
    Refuse {
        process: usize,
        grant: usize,
        old: bool,
    },
    /// A person signs in.
    SignIn { process: usize, grant: usize },
    /// The disk takes no more for so long.
    FullDisk { lasting: Duration },
    /// Somebody sets the clock.
    Jump { seconds: i64 },
    /// `kill -9`, whatever it is doing.
    Kill { process: usize },
}

fn seconds(below: u64) -> impl Strategy<Value = Duration> {
    (0..below * 1000).prop_map(Duration::from_millis)
}

fn custom() -> impl Strategy<Value = Custom> {
    select(vec![
        Custom::AppOnly,
        Custom::Static,
        Custom::Lenient,
        Custom::Strict {
            grace: Duration::ZERO,
        },
        Custom::Strict {
            grace: Duration::ZERO,
        },
        Custom::Strict {
            grace: Duration::from_secs(30),
        },
    ])
}

fn grant() -> impl Strategy<Value = Grant> {
    let lifetime = select(vec![300, 1200, 3600]);
    (custom(), lifetime, prop::bool::weighted(0.9)).prop_map(|(custom, lifetime, signed_in)| {
        Grant {
            terms: Terms {
                custom,
                lifetime: Duration::from_secs(lifetime),
            },
            signed_in,
        }
    })
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => select(vec![
            Fault::InvalidRequest,
            Fault::Junk,
            Fault::Broken,
            Fault::Html,
            Fault::Hang,
            Fault::InvalidClient,
        ]),
        1 => prop::option::of(1..7200_u64).prop_map(|retry_after| Fault::TooMany { retry_after }),
        2 => select(vec![Fault::Lost, Fault::LostSlowly]),
        2 => select(vec![Fault::Expired, Fault::Keeps, Fault::RefreshIn]),
        1 => select(vec![Fault::Revoked, Fault::Interaction]),
    ]
}

fn weather(grants: usize) -> impl Strategy<Value = Weather> {
    let length = prop_oneof![seconds(30), seconds(1200), seconds(3600)];
    let grant = prop::option::weighted(0.7, 0..grants);
    (seconds(TROUBLES), length, grant, fault()).prop_map(|(from, length, grant, fault)| Weather {
        from,
        to: from + length,
        grant,
        fault,
    })
}

/// A jump of the clock by a day.
pub(super) const DAY: i64 = 86_400;

fn act(grants: usize, processes: usize) -> impl Strategy<Value = Act> {
    let patience = prop::option::weighted(0.4, (1..5000_u64).prop_map(Duration::from_millis));
    let whose = move || (0..processes, 0..grants);
    prop_oneof![
        20 => (whose(), 1..5_u8, patience).prop_map(|((process, grant), crowd, patience)| {
            Act::Call { process, grant, crowd, patience }
        }),
        3 => (whose(), any::<bool>()).prop_map(|((process, grant), old)| {
            Act::Refuse { process, grant, old }
        }),
        2 => whose().prop_map(|(process, grant)| Act::SignIn { process, grant }),
        1 => seconds(300).prop_map(|lasting| Act::FullDisk { lasting }),
        1 => select(vec![DAY, -DAY, 600, -600]).prop_map(|seconds| Act::Jump { seconds }),
        1 => (0..processes).prop_map(|process| Act::Kill { process }),
    ]
}

fn actions(
    act: impl Strategy<Value = Act>,
    number: Range<usize>,
) -> impl Strategy<Value = Vec<Action>> {
    let action = (seconds(TROUBLES), act).prop_map(|(at, act)| Action { at, act });
    vec(action, number).prop_map(|mut actions| {
        actions.sort_by_key(|action| action.at);
        actions
    })
}

fn process() -> impl Strategy<Value = Process> {
    let ends = vec((0..60_u64, any::<bool>()), 0..4);
    (any::<bool>(), ends).prop_map(|(tends, ends)| Process { tends, ends })
}

/// A run with everything that can go wrong.
pub(super) fn storm() -> impl Strategy<Value = Scenario> {
    (1..4_usize, 1..4_usize).prop_flat_map(|(grants, processes)| {
        (
            any::<u64>(),
            vec(grant(), grants),
            vec(process(), processes),
            vec(weather(grants), 0..8),
            actions(act(grants, processes), 0..50),
            select(vec![(16, 10), (2, 3), (1, 1)]),
        )
            .prop_map(
                |(seed, grants, processes, weather, actions, caps)| Scenario {
                    seed,
                    grants,
                    processes,
                    weather,
                    actions,
                    caps,
                    until: Duration::from_secs(TROUBLES + 3600),
                    recovery: RECOVERY,
                },
            )
    })
}

/// What happens in a run in which nothing goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twist {
    /// The clock is set, once.
    Jump,
    /// Callers do not stay.
    Impatience,
    /// Mail servers refuse tokens that have been replaced.
    OldRefusals,
}

/// A run in which nothing goes wrong but one kind of thing.
pub(super) fn quiet(twist: Twist) -> impl Strategy<Value = Scenario> {
    (1..3_usize, 1..3_usize).prop_flat_map(move |(grants, processes)| {
        let whose = || (0..processes, 0..grants);
        let patience = (1..3000_u64).prop_map(Duration::from_millis);
        let patience = prop::option::weighted(0.7, patience)
            .prop_map(move |patience| patience.filter(|_| twist == Twist::Impatience));
        let call = (whose(), 1..3_u8, patience).prop_map(|((process, grant), crowd, patience)| {
            Act::Call {
                process,
                grant,
                crowd,
                patience,
            }
        });
        let refusal = whose().prop_map(|(process, grant)| Act::Refuse {
            process,
            grant,
            old: true,
        });
        let refusals = if twist == Twist::OldRefusals {
            1..12
        } else {
            0..1
        };
        let jump = (seconds(TROUBLES), select(vec![DAY, -DAY]));
        (
            any::<u64>(),
            vec(grant(), grants),
            vec(any::<bool>(), processes),
            actions(call, 0..60),
            actions(refusal, refusals),
            jump,
        )
            .prop_map(move |(seed, mut grants, tends, calls, refusals, jump)| {
                for grant in &mut grants {
                    grant.signed_in = true;
                }
                let mut actions = [calls, refusals].concat();
                if twist == Twist::Jump {
                    let (at, seconds) = jump;
                    let act = Act::Jump { seconds };
                    actions.push(Action { at, act });
                }
                actions.sort_by_key(|action| action.at);
                let process = |tends| Process {
                    tends,
                    ends: Vec::new(),
                };
                Scenario {
                    seed,
                    grants,
                    processes: tends.into_iter().map(process).collect(),
                    weather: Vec::new(),
                    actions,
                    caps: (16, 10),
                    until: Duration::from_secs(TROUBLES + 60),
                    recovery: Duration::from_mins(5),
                }
            })
    })
}

impl Scenario {
    /// The same without those actions.
    pub(super) fn without(&self, left_out: impl Fn(&Act) -> bool) -> Self {
        let mut other = self.clone();
        other.actions.retain(|action| !left_out(&action.act));
        other
    }

    /// The same, but whoever calls stays.
    pub(super) fn with_patience(&self) -> Self {
        let mut other = self.clone();
        for action in &mut other.actions {
            if let Act::Call { patience, .. } = &mut action.act {
                *patience = None;
            }
        }
        other
    }

    pub(super) fn has(&self, wanted: impl Fn(&Act) -> bool) -> bool {
        self.actions.iter().any(|action| wanted(&action.act))
    }
}
