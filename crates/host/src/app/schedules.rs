//! The schedules of this process: where they are kept, and who hears what comes of them.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use postrider_schedule::{
    Draft, LeftOut, MemoryStore, Missed, Outcome, Scheduler, SchedulerSettings, Sink, Store,
    WhyLeftOut,
};
use serde_json::json;

use super::App;
use super::events::Events;
use super::world::Lasting;
use crate::metrics::Metrics;

/// What schedules with a name are kept in, in the state directory.
pub(crate) const FILE: &str = "schedules.db";

impl App {
    /// The schedules of all generations. The first call opens what they are kept in.
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

    /// What this generation's scripts schedule. That of the first one is in force from the start.
    pub(crate) fn draft(&self) -> &Draft {
        self.0.draft.get_or_init(|| {
            let scheduler = self.scheduler();
            let draft = scheduler.generation();
            if self.lock_credentials().in_force {
                scheduler.install(&draft);
            }
            draft
        })
    }

    /// Puts this generation's schedules in force, in place of those of the one before.
    pub(crate) fn install_schedules(&self) {
        self.scheduler().install(self.draft());
    }

    /// Whether anything was ever scheduled or asked of the scheduler.
    pub(crate) fn has_schedules(&self) -> bool {
        let scheduler = self.0.lasting.scheduler.get();
        scheduler.is_some_and(|scheduler| !scheduler.is_empty())
    }
}

/// A sandbox leaves nothing behind.
fn store(lasting: &Lasting) -> Arc<dyn Store> {
    if lasting.world.confined_to.is_some() {
        return Arc::new(MemoryStore::new());
    }
    let opened = lasting
        .state_dir()
        .map_err(|failure| failure.message)
        .and_then(|dir| open(&dir));
    match opened {
        Ok(store) => store,
        Err(why) => {
            tracing::warn!(
                "schedules are not kept: after a restart none is known to have run: {why}"
            );
            Arc::new(MemoryStore::new())
        }
    }
}

/// What is kept in the state directory `dir`.
///
/// # Errors
/// Why it cannot be opened, in words.
pub(crate) fn open(_dir: &Path) -> Result<Arc<dyn Store>, String> {
    Ok(Arc::new(MemoryStore::new()))
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
                ("schedule.finished", json!({ "took": took.as_secs_f64() }))
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
                    "line": error.at,
                    "retry_at": outcome.retry_at.map(seconds),
                });
                ("schedule.failed", payload)
            }
        };
        payload["name"] = json!(name);
        payload["script"] = json!(outcome.script);
        payload["plan"] = json!(outcome.plan);
        payload["scheduled_at"] = json!(seconds(outcome.scheduled_at));
        payload["reason"] = json!(outcome.reason.name());
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
            "latest": seconds(left_out.latest),
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
