//! Schedules as a command shows them, from the daemon's hand or out of the file they are kept in.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use postrider_schedule::{
    JobError, PastRun, ScheduleError, Scheduler, Standing, Store, StoreError, StoreErrorKind,
};
use serde::{Deserialize, Serialize};

use crate::app::{Moment, schedules};
use crate::failure::Failure;
use crate::state;

/// How a schedule stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ScheduleStatus {
    /// None where its script gave it none; then nothing can be asked of it.
    pub(crate) name: Option<String>,
    /// The script it is of.
    pub(crate) script: String,
    /// Its line, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
    /// When it runs, in words.
    pub(crate) plan: String,
    /// The zone whose wall clock it goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<String>,
    /// When it runs next.
    pub(crate) next: Option<Moment>,
    pub(crate) paused: bool,
    /// Runs under way.
    pub(crate) running: u32,
    /// Runs that have ended.
    pub(crate) runs: u64,
    /// How many of them failed.
    pub(crate) failures: u64,
    /// The latest run that has ended.
    pub(crate) last: Option<RunReport>,
}

/// One run that has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunReport {
    /// Counts the runs of one schedule.
    pub(crate) number: u64,
    /// When it was to run.
    pub(crate) scheduled_at: Moment,
    pub(crate) started_at: Moment,
    pub(crate) ended_at: Moment,
    /// Seconds.
    pub(crate) took: f64,
    /// `tick`, `missed`, `manual` or `retry`.
    pub(crate) reason: Cow<'static, str>,
    /// Counts from one.
    pub(crate) attempt: u32,
    /// The missed times it stood for.
    pub(crate) missed: u32,
    pub(crate) ok: bool,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<RunError>,
}

/// Why a run failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunError {
    pub(crate) code: String,
    pub(crate) message: String,
    /// The line of the script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
}

/// What is to be done with a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    Pause,
    Resume,
}

impl From<Standing> for ScheduleStatus {
    fn from(standing: Standing) -> Self {
        Self {
            name: standing.name,
            script: standing.script,
            at: standing.at,
            plan: standing.plan,
            zone: standing.zone,
            next: standing.next.map(moment),
            paused: standing.paused,
            running: standing.running,
            runs: standing.runs,
            failures: standing.failures,
            last: standing.last.map(RunReport::from),
        }
    }
}

impl From<PastRun> for RunReport {
    fn from(run: PastRun) -> Self {
        Self {
            number: run.number,
            scheduled_at: moment(run.scheduled_at),
            started_at: moment(run.started_at),
            ended_at: moment(run.ended_at),
            took: run.took().as_secs_f64(),
            reason: run.reason.name().into(),
            attempt: run.attempt,
            missed: run.missed,
            ok: run.result.is_ok(),
            error: run.result.err().map(RunError::from),
        }
    }
}

impl From<JobError> for RunError {
    fn from(error: JobError) -> Self {
        Self {
            code: error.code,
            message: error.message,
            at: error.at,
        }
    }
}

fn moment(time: Timestamp) -> Moment {
    Moment(time.into())
}

/// All schedules in force.
pub(crate) fn list(scheduler: &Scheduler) -> Vec<ScheduleStatus> {
    let list = scheduler.list().into_iter();
    list.map(ScheduleStatus::from).collect()
}

/// Pauses a schedule in force, or lets it go on: how it stands then.
pub(crate) async fn switch(
    scheduler: &Scheduler,
    name: &str,
    switch: Switch,
) -> Result<ScheduleStatus, Failure> {
    standing(scheduler, name)?;
    match switch {
        Switch::Pause => scheduler.pause(name).await,
        Switch::Resume => scheduler.resume(name).await,
    }
    .map_err(refused)?;
    standing(scheduler, name)
}

/// The latest runs of a schedule in force, the latest first.
pub(crate) async fn history(
    scheduler: &Scheduler,
    name: &str,
    limit: usize,
) -> Result<Vec<RunReport>, Failure> {
    standing(scheduler, name)?;
    let runs = scheduler.history(name, limit).await.map_err(refused)?;
    Ok(runs.into_iter().map(RunReport::from).collect())
}

/// Begins a run of a schedule in force, beside its plan.
pub(crate) fn begin(scheduler: &Scheduler, name: &str) -> Result<(), Failure> {
    standing(scheduler, name)?;
    scheduler.run_now(name).map_err(refused)
}

/// Ends all schedules but this one.
pub(crate) fn keep_only(scheduler: &Scheduler, name: &str) -> Result<(), Failure> {
    standing(scheduler, name)?;
    scheduler.keep_only(name);
    Ok(())
}

/// The same to its end.
pub(crate) async fn run(scheduler: &Scheduler, name: &str) -> Result<RunReport, Failure> {
    standing(scheduler, name)?;
    let ended = scheduler.run_to_its_end(name).await;
    ended.map(RunReport::from).map_err(refused)
}

fn standing(scheduler: &Scheduler, name: &str) -> Result<ScheduleStatus, Failure> {
    let mut list = scheduler.list().into_iter();
    let found = list.find(|standing| standing.name.as_deref() == Some(name));
    match found {
        Some(standing) => Ok(standing.into()),
        None => Err(unknown(
            name,
            scheduler.list().into_iter().filter_map(|one| one.name),
        )),
    }
}

fn unknown(name: &str, others: impl Iterator<Item = String>) -> Failure {
    let failure = Failure::new("schedule.unknown", format!("there is no schedule {name:?}"));
    let others: Vec<String> = others.collect();
    match crate::suggest::nearest(name, others.iter().map(String::as_str)) {
        Some(near) => failure.with_remedy(format!("did you mean {near:?}?")),
        None => failure.with_remedy("see them all: postrider schedule list"),
    }
}

fn refused(error: ScheduleError) -> Failure {
    let message = error.to_string();
    match error {
        ScheduleError::Unknown(name) => unknown(&name, std::iter::empty()),
        ScheduleError::Running(_) => Failure::new("schedule.running", message)
            .with_remedy("wait for its end; if its process was killed: for a minute")
            .retryable(),
        ScheduleError::Stopping => Failure::new("serve.stopping", message).retryable(),
        ScheduleError::Store(error) => out_of_reach(&error),
        _ => Failure::new("schedule.refused", message),
    }
}

fn out_of_reach(error: &StoreError) -> Failure {
    let failure = Failure::new("file.unreadable", error.message.clone());
    match error.kind {
        StoreErrorKind::Busy => failure.with_remedy("try again in a moment").retryable(),
        StoreErrorKind::Newer => failure.with_remedy("use that newer postrider"),
        StoreErrorKind::Corrupt => failure.with_remedy(
            "move it away: a new one is made, and schedules begin anew, none of them paused",
        ),
        StoreErrorKind::ReadOnly => {
            failure.with_remedy("let the user that runs postrider write it and its directory")
        }
        StoreErrorKind::Full => failure.with_remedy("make room on its disk"),
        _ => failure,
    }
}

/// What is kept of schedules, for who looks without a daemon.
pub(crate) struct Kept(Option<Arc<dyn Store>>);

impl Kept {
    /// What the state directory has.
    pub(crate) fn open(given: Option<&Path>) -> Result<Self, Failure> {
        // Looking at it does not make it.
        if !state::directory(given)?.join(schedules::FILE).exists() {
            return Ok(Self(None));
        }
        match schedules::open(given) {
            Ok(store) => Ok(Self(Some(Arc::new(store)))),
            Err(error) => Err(out_of_reach(&error)),
        }
    }

    /// All schedules with a name that ever ran from here.
    pub(crate) fn list(&self) -> Result<Vec<ScheduleStatus>, Failure> {
        let Some(store) = &self.0 else {
            return Ok(Vec::new());
        };
        let list = store
            .standings(Timestamp::now())
            .map_err(|error| out_of_reach(&error))?;
        Ok(list.into_iter().map(ScheduleStatus::from).collect())
    }

    /// Pauses one, or lets it go on.
    pub(crate) fn switch(&self, name: &str, switch: Switch) -> Result<ScheduleStatus, Failure> {
        if let Some(store) = &self.0 {
            store
                .set_paused(name, switch == Switch::Pause, Timestamp::now())
                .map_err(|error| out_of_reach(&error))?;
        }
        self.standing(name)
    }

    /// The latest runs of one, the latest first.
    pub(crate) fn history(&self, name: &str, limit: usize) -> Result<Vec<RunReport>, Failure> {
        self.standing(name)?;
        let Some(store) = &self.0 else {
            return Ok(Vec::new());
        };
        let runs = store
            .history(name, limit)
            .map_err(|error| out_of_reach(&error))?;
        Ok(runs.into_iter().map(RunReport::from).collect())
    }

    fn standing(&self, name: &str) -> Result<ScheduleStatus, Failure> {
        let list = self.list()?;
        let is_it = |one: &&ScheduleStatus| one.name.as_deref() == Some(name);
        match list.iter().find(is_it) {
            Some(standing) => Ok(standing.clone()),
            None => Err(unknown(name, list.into_iter().filter_map(|one| one.name))),
        }
    }
}
