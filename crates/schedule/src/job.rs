//! What is run, what it is told, and who hears how it ended.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::options::{Missed, Options};
use crate::plan::Plan;

/// Something to run, and when.
#[derive(Clone)]
pub struct Schedule {
    /// When.
    pub plan: Plan,
    /// How it behaves.
    pub options: Options,
    /// What is run.
    pub job: Arc<dyn Job>,
    /// Where it was asked for: the script, as in `report.lua`.
    pub script: String,
    /// And where in it: `report.lua:12`.
    pub at: String,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule")
            .field("plan", &self.plan)
            .field("options", &self.options)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// What a schedule runs.
pub trait Job: Send + Sync {
    /// Runs it once. Dropping the future ends the run.
    fn run(&self, run: Run) -> BoxFuture<'static, Result<(), JobError>>;
}

/// One run, as its job is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The schedule's name.
    pub name: Option<String>,
    /// The slot: when it was to run, jitter and delays left out.
    pub scheduled_at: Timestamp,
    /// Why it runs now.
    pub reason: Reason,
    /// Counts from one; more than one after a failure.
    pub attempt: u32,
    /// How many slots before this one were missed and are not run: what this run stands for.
    pub missed: u32,
}

/// Why something runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is time.
    Tick,
    /// It was time earlier, but nobody watched.
    Missed,
    /// Somebody asked for it.
    Manual,
    /// It failed before.
    Retry,
}

impl Reason {
    /// As scripts, events and the history say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::Missed => "missed",
            Self::Manual => "manual",
            Self::Retry => "retry",
        }
    }

    /// The reason of that name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        [Self::Tick, Self::Missed, Self::Manual, Self::Retry]
            .into_iter()
            .find(|reason| reason.name() == name)
    }
}

/// Why a run failed. Codes of its own are `schedule.timeout`, `schedule.panicked` and
/// `schedule.interrupted`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobError {
    /// A dotted code, stable.
    pub code: String,
    /// What happened.
    pub message: String,
    /// The line of the script, where it is known.
    pub at: Option<String>,
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for JobError {}

/// How one run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The schedule's name.
    pub name: Option<String>,
    /// The script it is of.
    pub script: String,
    /// When it is to run, in words.
    pub plan: String,
    /// The slot.
    pub scheduled_at: Timestamp,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Why it ran.
    pub reason: Reason,
    /// Counts from one.
    pub attempt: u32,
    /// The missed slots it stood for.
    pub missed: u32,
    /// What came of it.
    pub result: Result<(), JobError>,
    /// When it is tried again.
    pub retry_at: Option<Timestamp>,
}

impl Outcome {
    /// How long it took.
    pub fn took(&self) -> Duration {
        Duration::try_from(self.ended_at.duration_since(self.started_at)).unwrap_or_default()
    }
}

/// Slots that were not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The schedule's name.
    pub name: Option<String>,
    /// The script it is of.
    pub script: String,
    /// How many.
    pub count: u32,
    /// Why.
    pub why: WhyLeftOut,
    /// The latest of them.
    pub latest: Timestamp,
}

/// Why slots were not run, or not each on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyLeftOut {
    /// Nobody watched when they fell due, and the policy is this one. With [`Missed::All`] only
    /// those are counted that are too many.
    Missed(Missed),
    /// A run was still under way.
    Overlap,
}

/// Who is told what comes of schedules. The calls are short: they hold up the scheduler.
pub trait Sink: Send + Sync {
    /// A run has ended.
    fn ended(&self, outcome: &Outcome);

    /// Slots fell due that were not run, or not each on its own.
    fn left_out(&self, left_out: &LeftOut);

    /// The store failed, or works again; until then the scheduler goes on from memory.
    fn trouble(&self, message: &str);
}
