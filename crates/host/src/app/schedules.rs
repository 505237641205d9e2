//! The schedules of this process: where they are kept, and who hears what comes of them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use postrider_schedule::{
    Draft, LeftOut, MemoryStore, Missed, Outcome, PastRun, Row, Scheduler, SchedulerSettings, Sink,
    SqliteStore, Store, StoreError, StoreErrorKind, WhyLeftOut,
};
use serde_json::json;

use super::App;
use super::events::Events;
use super::world::Lasting;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::state;

/// What schedules with a name are kept in, in the state directory.
pub(crate) const FILE: &str = "schedules.db";

impl App {
    /// The schedules of all generations.
    pub fn scheduler(&self) -> &Scheduler {
        let lasting = &self.0.lasting;
        lasting.scheduler.get_or_init(|| {
            Scheduler::new(SchedulerSettings {
                clock: Arc::clone(&lasting.world.clock),
                store: store(lasting),
                sink: Arc::new(Told {
                    events: Arc::clone(&lasting.events),
                    metrics: lasting.metrics.clone(),
                }),
            })
        })
    }

    /// What this generation's scripts schedule. Where the generation is in force already, so is
    /// the draft, and runs from here on.
    pub(crate) fn draft(&self) -> &Draft {
        self.0.draft.get_or_init(|| {
            let scheduler = self.scheduler();
            let draft = scheduler.generation();
            if self.lock_credentials().in_force {
                scheduler.install(&draft);
                self.0.lasting.drive(scheduler.clone());
            }
            draft
        })
    }

    /// Puts this generation's schedules in force, in place of those of the one before.
    pub(crate) fn install_schedules(&self) {
        self.scheduler().install(self.draft());
    }
}

/// A sandbox leaves nothing behind.
fn store(lasting: &Lasting) -> Arc<dyn Store> {
    if lasting.world.confined_to.is_some() {
        return Arc::new(MemoryStore::new());
    }
    Arc::new(WhenNeeded {
        given: lasting.settings.state_dir.clone(),
        opened: OnceLock::new(),
    })
}

/// What is kept in the state directory, which is made if it is not there.
pub(crate) fn open(given: Option<&Path>) -> Result<SqliteStore, StoreError> {
    let unusable = |failure: Failure| StoreError {
        kind: StoreErrorKind::Io,
        message: failure.message,
    };
    let directory = state::directory(given).map_err(unusable)?;
    state::prepare(&directory).map_err(unusable)?;
    SqliteStore::open(&directory.join(FILE))
}

/// The store, made for the first schedule that has a name: a script without one leaves no file.
struct WhenNeeded {
    given: Option<PathBuf>,
    opened: OnceLock<SqliteStore>,
}

impl WhenNeeded {
    fn store(&self) -> Result<&SqliteStore, StoreError> {
        if let Some(store) = self.opened.get() {
            return Ok(store);
        }
        let store = open(self.given.as_deref())?;
        Ok(self.opened.get_or_init(|| store))
    }

    /// The store, if there is something to read.
    fn found(&self) -> Result<Option<&SqliteStore>, StoreError> {
        let is_there = self.opened.get().is_some()
            || state::directory(self.given.as_deref()).is_ok_and(|at| at.join(FILE).exists());
        is_there.then(|| self.store()).transpose()
    }
}

impl Store for WhenNeeded {
    fn load(&self, name: &str, now: Timestamp) -> Result<Option<Row>, StoreError> {
        match self.found()? {
            Some(store) => store.load(name, now),
            None => Ok(None),
        }
    }

    fn all(&self, now: Timestamp) -> Result<Vec<(String, Row)>, StoreError> {
        match self.found()? {
            Some(store) => store.all(now),
            None => Ok(Vec::new()),
        }
    }

    fn change(
        &self,
        name: &str,
        now: Timestamp,
        change: &mut dyn FnMut(&mut Option<Row>),
    ) -> Result<(), StoreError> {
        self.store()?.change(name, now, change)
    }

    fn history(&self, name: &str, limit: usize) -> Result<Vec<PastRun>, StoreError> {
        match self.found()? {
            Some(store) => store.history(name, limit),
            None => Ok(Vec::new()),
        }
    }
}

/// Tells the log, scripts and the metrics.
struct Told {
    events: Arc<Events>,
    metrics: Metrics,
}

impl Sink for Told {
    fn ended(&self, outcome: &Outcome) {
        let name = outcome.name.as_deref();
        let shown = name.unwrap_or(&outcome.plan);
        let (result, took) = (&outcome.result, outcome.took());
        let word = if result.is_ok() { "ok" } else { "failed" };
        self.metrics.schedule_run(
            name.unwrap_or("unnamed"),
            word,
            outcome.ended_at.into(),
            took,
        );
        let (event, mut payload) = match result {
            Ok(()) => {
                tracing::debug!(schedule = shown, script = outcome.script, "ran");
                let reason = outcome.reason.name();
                let payload = json!({ "took": took.as_secs_f64(), "reason": reason });
                ("schedule.finished", payload)
            }
            Err(error) => {
                tracing::error!(
                    schedule = shown,
                    script = outcome.script,
                    at = error.at,
                    code = error.code,
                    attempt = outcome.attempt,
                    retry_at = outcome.retry_at.map(|at| at.to_string()),
                    "a scheduled run failed: {}",
                    error.message
                );
                let payload = json!({
                    "attempt": outcome.attempt,
                    "code": error.code,
                    "message": error.message,
                    "at_line": error.at,
                    "retry_at": outcome.retry_at.map(seconds),
                });
                ("schedule.failed", payload)
            }
        };
        payload["name"] = json!(name);
        payload["script"] = json!(outcome.script);
        payload["scheduled_at"] = json!(seconds(outcome.scheduled_at));
        self.events.tell(event, payload);
    }

    fn left_out(&self, left_out: &LeftOut) {
        let why = match left_out.why {
            WhyLeftOut::Overlap => "overlap",
            WhyLeftOut::Missed(Missed::Skip) => "skip",
            WhyLeftOut::Missed(Missed::Once) => "once",
            WhyLeftOut::Missed(Missed::All) => "all",
        };
        tracing::warn!(
            schedule = left_out.name,
            script = left_out.script,
            count = left_out.count,
            policy = why,
            "runs were missed"
        );
        let payload = json!({
            "name": left_out.name,
            "script": left_out.script,
            "count": left_out.count,
            "policy": why,
        });
        self.events.tell("schedule.missed", payload);
    }

    fn trouble(&self, message: &str) {
        tracing::warn!("schedules: {message}");
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "milliseconds of any calendar date fit 53 bits"
)]
fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}
