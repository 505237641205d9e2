//! What a long-running Postrider counts, as `OpenMetrics`.
//!
//! Counting is a few atomic additions, so everybody counts, whether or not anybody looks. The
//! number of series is bounded: names that scripts make up are counted together once there are
//! `NAMES` of a kind.

mod web;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::app::SendOutcome;
use crate::control::{ScriptStatus, Status};
use crate::failure::Failure;

pub use web::{CONTENT_TYPE, serve};

/// Distinct names of one kind; further ones are `other`.
const NAMES: usize = 1000;
/// What further names are counted as. No account or schedule is called that: it has a space.
const OTHER: &str = "(other names)";

/// Everything that is counted. Clones are the same.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    sends: Family<SendLabels, Counter>,
    refreshes: Family<ResultLabel, Counter>,
    schedule_runs: Family<RunLabels, Counter>,
    last_run: Family<ScheduleLabel, Gauge<f64, AtomicU64>>,
    last_took: Family<ScheduleLabel, Gauge<f64, AtomicU64>>,
    plugin_calls: Family<PluginLabels, Counter>,
    reloads: Family<ResultLabel, Counter>,
    accounts: Names,
    schedules: Names,
    plugins: Names,
}

/// How something ended.
fn word(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SendLabels {
    account: String,
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    schedule: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ScheduleLabel {
    schedule: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabels {
    plugin: String,
    operation: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ScriptLabel {
    script: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut inner = Inner {
            registry: Registry::with_prefix("postrider"),
            sends: Family::default(),
            refreshes: Family::default(),
            schedule_runs: Family::default(),
            last_run: Family::default(),
            last_took: Family::default(),
            plugin_calls: Family::default(),
            reloads: Family::default(),
            accounts: Names::default(),
            schedules: Names::default(),
            plugins: Names::default(),
        };
        let registry = &mut inner.registry;
        registry.register(
            "sends",
            "Messages by what became of them: accepted, partial (for some recipients), refused, retry, unknown",
            inner.sends.clone(),
        );
        registry.register(
            "refreshes",
            "Attempts to fetch a token",
            inner.refreshes.clone(),
        );
        registry.register(
            "schedule_runs",
            "Runs of schedules by how they ended",
            inner.schedule_runs.clone(),
        );
        registry.register_with_unit(
            "schedule_last_run_timestamp",
            "When the last run of a schedule ended, since 1970",
            Unit::Seconds,
            inner.last_run.clone(),
        );
        registry.register_with_unit(
            "schedule_last_run_duration",
            "How long the last run of a schedule took",
            Unit::Seconds,
            inner.last_took.clone(),
        );
        registry.register(
            "plugin_calls",
            "Calls into auth plugins",
            inner.plugin_calls.clone(),
        );
        registry.register(
            "reloads",
            "Attempts to load everything anew",
            inner.reloads.clone(),
        );
        Self(Arc::new(inner))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// A message has been sent through this account, or not.
    pub fn send(&self, account: &str, outcome: &Result<SendOutcome, Failure>) {
        let verdict = match outcome {
            Ok(outcome) if outcome.complete => "accepted",
            Ok(_) => "partial",
            Err(failure) if failure.code == "smtp.unknown" => "unknown",
            Err(failure) if failure.retryable => "retry",
            Err(_) => "refused",
        };
        let account = self.0.accounts.bounded(account);
        self.0
            .sends
            .get_or_create(&SendLabels { account, verdict })
            .inc();
    }

    /// A token has been asked for, and came or did not.
    pub fn refresh(&self, ok: bool) {
        let result = word(ok);
        self.0
            .refreshes
            .get_or_create(&ResultLabel { result })
            .inc();
    }

    /// A run of a schedule ended: `result` is one of a few words, such as `ok`.
    pub fn schedule_run(
        &self,
        schedule: &str,
        result: &'static str,
        ended_at: SystemTime,
        took: Duration,
    ) {
        let schedule = self.0.schedules.bounded(schedule);
        let label = ScheduleLabel {
            schedule: schedule.clone(),
        };
        let since_1970 = ended_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.0
            .last_run
            .get_or_create(&label)
            .set(since_1970.as_secs_f64());
        self.0
            .last_took
            .get_or_create(&label)
            .set(took.as_secs_f64());
        self.0
            .schedule_runs
            .get_or_create(&RunLabels { schedule, result })
            .inc();
    }

    /// A plugin was called and answered, or did not.
    pub fn plugin_call(&self, plugin: &str, operation: &'static str, ok: bool) {
        let labels = PluginLabels {
            plugin: self.0.plugins.bounded(plugin),
            operation,
            result: word(ok),
        };
        self.0.plugin_calls.get_or_create(&labels).inc();
    }

    /// Everything was loaded anew, or could not be.
    pub fn reload(&self, ok: bool) {
        let result = word(ok);
        self.0.reloads.get_or_create(&ResultLabel { result }).inc();
    }

    /// All of it as `OpenMetrics` text, with how the daemon stands at this moment.
    pub(crate) fn render(&self, status: &Status, tokens: &BTreeMap<String, usize>) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode_registry(&mut text, &self.0.registry);
        let _ = encode_registry(&mut text, &at_this_moment(status, tokens));
        let _ = encode_eof(&mut text);
        text
    }
}

/// What is looked up when somebody asks.
fn at_this_moment(status: &Status, tokens: &BTreeMap<String, usize>) -> Registry {
    let mut registry = Registry::with_prefix("postrider");
    registry.register(
        "build",
        "Which Postrider this is",
        Info::new([("version", status.version.to_string())]),
    );
    let started = Gauge::<f64, AtomicU64>::default();
    let since_1970 = status
        .started_at
        .0
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    started.set(since_1970.as_secs_f64());
    registry.register_with_unit(
        "start_time",
        "When the daemon started, since 1970",
        Unit::Seconds,
        started,
    );
    let generation = Gauge::<f64, AtomicU64>::default();
    generation.set(count(status.generation));
    registry.register(
        "generation",
        "Which generation of scripts and settings is in force",
        generation,
    );

    let by_state = Family::<StateLabel, Gauge<f64, AtomicU64>>::default();
    for (state, number) in tokens {
        let label = StateLabel {
            state: state.clone(),
        };
        by_state.get_or_create(&label).set(count(*number as u64));
    }
    registry.register(
        "tokens",
        "Accounts by how their credential stands",
        by_state,
    );

    let by_standing = Family::<StateLabel, Gauge<f64, AtomicU64>>::default();
    let schedules = status.schedules;
    for (state, number) in [
        ("all", schedules.total),
        ("running", schedules.running),
        ("paused", schedules.paused),
    ] {
        let label = StateLabel {
            state: state.to_owned(),
        };
        by_standing.get_or_create(&label).set(count(number as u64));
    }
    registry.register(
        "schedules",
        "Schedules: all, with a run under way, paused",
        by_standing,
    );
    scripts(&mut registry, &status.scripts);
    registry
}

fn scripts(registry: &mut Registry, scripts: &[ScriptStatus]) {
    let cpu = Family::<ScriptLabel, Counter<f64, AtomicU64>>::default();
    let memory = Family::<ScriptLabel, Gauge<f64, AtomicU64>>::default();
    let calls = Family::<ScriptLabel, Counter>::default();
    let errors = Family::<ScriptLabel, Counter>::default();
    // Files that stand in a directory: as many as somebody put there.
    for script in scripts.iter().take(NAMES) {
        let label = ScriptLabel {
            script: script.name.clone(),
        };
        cpu.get_or_create(&label).inc_by(script.cpu);
        memory.get_or_create(&label).set(count(script.memory));
        calls.get_or_create(&label).inc_by(script.calls);
        errors.get_or_create(&label).inc_by(script.errors);
    }
    registry.register_with_unit(
        "lua_cpu",
        "Time that scripts ran Lua, since they were loaded",
        Unit::Seconds,
        cpu,
    );
    registry.register_with_unit(
        "lua_memory",
        "Memory that scripts hold",
        Unit::Bytes,
        memory,
    );
    registry.register(
        "lua_calls",
        "Calls into scripts, since they were loaded",
        calls,
    );
    registry.register(
        "lua_errors",
        "Calls into scripts that ended with an error",
        errors,
    );
}

#[allow(
    clippy::cast_precision_loss,
    reason = "no count here needs more than 52 bits"
)]
fn count(number: u64) -> f64 {
    number as f64
}

/// Names seen so far, for the number of series is bounded.
#[derive(Default)]
struct Names(Mutex<BTreeSet<String>>);

impl Names {
    fn bounded(&self, name: &str) -> String {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(name) {
            return name.to_owned();
        }
        if known.len() >= NAMES {
            return OTHER.to_owned();
        }
        known.insert(name.to_owned());
        name.to_owned()
    }
}
