//! How a schedule stands, for people and programs that only look.

use jiff::Timestamp;

use crate::row::{PastRun, Row};

/// How a schedule stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: Option<String>,
    /// The script it is of.
    pub script: String,
    /// The line that asked for it, where that is known.
    pub at: Option<String>,
    /// When it runs, in words.
    pub plan: String,
    /// The zone whose wall clock it goes by.
    pub zone: Option<String>,
    /// The latest run that has ended.
    pub last: Option<PastRun>,
    /// When it runs next.
    pub next: Option<Timestamp>,
    /// Whether it waits for somebody to let it go on.
    pub paused: bool,
    /// Runs under way.
    pub running: u32,
    /// Runs that have ended.
    pub runs: u64,
    /// How many of them failed.
    pub failures: u64,
}

impl Standing {
    /// As a store keeps it.
    pub(crate) fn kept(name: String, row: &Row, now: Timestamp) -> Self {
        let running = row.open.iter().filter(|run| run.is_live(now)).count();
        let retry = row.retry.map(|due| due.at);
        Self {
            name: Some(name),
            script: row.script.clone(),
            at: None,
            plan: row.plan.clone(),
            zone: row.zone.clone(),
            last: row.last.clone(),
            next: retry
                .into_iter()
                .chain(row.next)
                .min()
                .filter(|_| !row.paused),
            paused: row.paused,
            running: u32::try_from(running).unwrap_or(u32::MAX),
            runs: row.runs,
            failures: row.failures,
        }
    }
}
