//! What a long-running Postrider counts, as `OpenMetrics`.
//!
//! Counting is a few atomic additions, so everybody counts, whether or not anybody looks. The
//! number of series is bounded: names that scripts make up are counted together once there are
//! `NAMES` of a kind.

mod gateway;
mod scripts;
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

use postrider_auth::{CallOutcome, Tally};
use postrider_spool::StateKind;

use crate::app::queue::report::Stats;
use crate::app::{Moment, SendOutcome};
use crate::control::Status;
use crate::failure::Failure;
use crate::lua::Usage;

use gateway::{GatewayLabel, Gateways};
pub(crate) use scripts::Counted;
use scripts::Scripts;
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
    renewals: Family<ResultLabel, Counter>,
    schedule_runs: Family<RunLabels, Counter>,
    last_run: Family<ScheduleLabel, Gauge<f64, AtomicU64>>,
    last_took: Family<ScheduleLabel, Gauge<f64, AtomicU64>>,
    plugin_calls: Family<PluginLabels, Counter>,
    reloads: Family<ResultLabel, Counter>,
    queue: Family<QueueLabels, Counter>,
    accounts: Names,
    schedules: Names,
    plugins: Names,
    gateways: Gateways,
    scripts: Scripts,
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
struct AccountLabel {
    account: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    account: String,
    state: &'static str,
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
            renewals: Family::default(),
            schedule_runs: Family::default(),
            last_run: Family::default(),
            last_took: Family::default(),
            plugin_calls: Family::default(),
            reloads: Family::default(),
            queue: Family::default(),
            accounts: Names::default(),
            schedules: Names::default(),
            plugins: Names::default(),
            gateways: Gateways::default(),
            scripts: Scripts::default(),
        };
        let registry = &mut inner.registry;
        registry.register(
            "sends",
            "Messages by what became of them: accepted, partial (for some recipients), refused, retry, unknown",
            inner.sends.clone(),
        );
        registry.register(
            "queue_transitions",
            "Recipients of queued messages by the state they got into",
            inner.queue.clone(),
        );
        registry.register(
            "secret_renewals",
            "Replacements of client secrets and certificates by how they ended",
            inner.renewals.clone(),
        );
        registry.register(
            "refreshes",
            "Attempts to fetch a token by how they ended",
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
            "Calls of auth plugins by how they ended",
            inner.plugin_calls.clone(),
        );
        registry.register(
            "reloads",
            "Attempts to load everything anew by how they ended",
            inner.reloads.clone(),
        );
        inner.gateways.register(registry);
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

    /// A token has been asked for: `result` is `ok`, or one of a few words that say why it did not
    /// come.
    pub fn refresh(&self, result: &'static str) {
        self.0
            .refreshes
            .get_or_create(&ResultLabel { result })
            .inc();
    }

    /// A client secret or certificate was to be replaced, and a new one is in use or not.
    pub fn renewal(&self, ok: bool) {
        self.0
            .renewals
            .get_or_create(&ResultLabel { result: word(ok) })
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

    /// A queued message got into another state, for one recipient.
    pub fn queued(&self, account: &str, state: &'static str) {
        let labels = QueueLabels {
            account: self.0.accounts.bounded(account),
            state,
        };
        self.0.queue.get_or_create(&labels).inc();
    }

    /// A plugin was called: `result` is `ok`, or one of a few words that say why it did not do it.
    pub fn plugin_call(&self, plugin: &str, operation: &'static str, result: &'static str) {
        let labels = PluginLabels {
            plugin: self.0.plugins.bounded(plugin),
            operation,
            result,
        };
        self.0.plugin_calls.get_or_create(&labels).inc();
    }

    /// From now on a script of this name is counted, until the answer is dropped. What it used
    /// stays counted.
    pub(crate) fn script(
        &self,
        name: String,
        usage: impl Fn() -> Usage + Send + Sync + 'static,
    ) -> Counted {
        self.0.scripts.count(name, usage)
    }

    /// Everything was loaded anew, or could not be.
    pub fn reload(&self, ok: bool) {
        let result = word(ok);
        self.0.reloads.get_or_create(&ResultLabel { result }).inc();
    }

    /// All of it as `OpenMetrics` text, with how the daemon stands at this moment.
    pub(crate) fn render(
        &self,
        status: &Status,
        accounts: &BTreeMap<String, usize>,
        queue: &Stats,
    ) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode_registry(&mut text, &self.0.registry);
        let mut now = self.at_this_moment(status, accounts);
        self.what_waits(&mut now, queue);
        let _ = encode_registry(&mut text, &now);
        let _ = encode_eof(&mut text);
        text
    }

    /// What is looked up when somebody asks.
    fn at_this_moment(&self, status: &Status, accounts: &BTreeMap<String, usize>) -> Registry {
        let mut registry = Registry::with_prefix("postrider");
        registry.register(
            "build",
            "Which Postrider this is",
            Info::new([("version", status.version.to_string())]),
        );
        let since_1970 = status.started_at.0.duration_since(UNIX_EPOCH);
        registry.register_with_unit(
            "start_time",
            "When the daemon started, since 1970",
            Unit::Seconds,
            gauge(since_1970.unwrap_or_default().as_secs_f64()),
        );
        registry.register(
            "generation",
            "Which generation of scripts and settings is in force",
            gauge(count(status.generation)),
        );
        let by_state = Family::<StateLabel, Gauge<f64, AtomicU64>>::default();
        for (state, number) in accounts {
            let label = StateLabel {
                state: state.clone(),
            };
            by_state.get_or_create(&label).set(count(*number as u64));
        }
        registry.register(
            "accounts",
            "Accounts by how their credential stands",
            by_state,
        );
        let schedules = status.schedules;
        for (name, help, number) in [
            ("schedules", "Schedules in force", schedules.total),
            (
                "schedules_running",
                "Schedules with a run under way",
                schedules.running,
            ),
            (
                "schedules_paused",
                "Schedules that are paused",
                schedules.paused,
            ),
        ] {
            registry.register(name, help, gauge(count(number as u64)));
        }
        let connections = Family::<GatewayLabel, Gauge<f64, AtomicU64>>::default();
        for gateway in &status.gateways {
            let label = GatewayLabel {
                gateway: gateway.name.clone(),
            };
            let open = connections.get_or_create(&label);
            open.set(count(gateway.connections));
        }
        registry.register(
            "gateway_connections",
            "Connections to gateways at this moment",
            connections,
        );
        script_usage(&mut registry, &self.0.scripts);
        registry
    }
}

impl Metrics {
    /// Mail by account and state, and how long the oldest of it has waited.
    fn what_waits(&self, registry: &mut Registry, queue: &Stats) {
        let recipients = Family::<QueueLabels, Gauge<f64, AtomicU64>>::default();
        let oldest = Family::<AccountLabel, Gauge<f64, AtomicU64>>::default();
        let paused = Family::<AccountLabel, Gauge<f64, AtomicU64>>::default();
        for (account, waits) in &queue.accounts {
            let account = self.0.accounts.bounded(account);
            for kind in StateKind::ALL {
                let labels = QueueLabels {
                    account: account.clone(),
                    state: kind.name(),
                };
                recipients
                    .get_or_create(&labels)
                    .set(count(waits.count(kind)));
            }
            let label = AccountLabel { account };
            let since_1970 = |at: Moment| at.0.duration_since(UNIX_EPOCH).unwrap_or_default();
            if let Some(at) = waits.oldest {
                oldest
                    .get_or_create(&label)
                    .set(since_1970(at).as_secs_f64());
            }
            let is_paused = waits.paused_until.is_some();
            paused
                .get_or_create(&label)
                .set(f64::from(u8::from(is_paused)));
        }
        registry.register(
            "queue_recipients",
            "Recipients of queued messages by where they stand",
            recipients,
        );
        registry.register_with_unit(
            "queue_oldest_timestamp",
            "When the oldest message was queued that waits, since 1970",
            Unit::Seconds,
            oldest,
        );
        registry.register(
            "queue_paused",
            "Whether nothing of an account's queue is sent for a while",
            paused,
        );
        registry.register(
            "queue_bytes",
            "What the queue takes on the disk",
            gauge(count(queue.on_disk)),
        );
    }
}

fn script_usage(registry: &mut Registry, scripts: &Scripts) {
    let cpu = Family::<ScriptLabel, Counter<f64, AtomicU64>>::default();
    let memory = Family::<ScriptLabel, Gauge<f64, AtomicU64>>::default();
    let calls = Family::<ScriptLabel, Counter>::default();
    let errors = Family::<ScriptLabel, Counter>::default();
    for (script, total) in scripts.totals() {
        let label = ScriptLabel { script };
        cpu.get_or_create(&label).inc_by(total.cpu.as_secs_f64());
        memory
            .get_or_create(&label)
            .set(count(total.memory_octets as u64));
        calls.get_or_create(&label).inc_by(total.calls);
        errors.get_or_create(&label).inc_by(total.errors);
    }
    registry.register_with_unit("lua_cpu", "Time that scripts ran Lua", Unit::Seconds, cpu);
    registry.register_with_unit(
        "lua_memory",
        "Memory that scripts hold",
        Unit::Bytes,
        memory,
    );
    registry.register("lua_calls", "Calls into scripts that began", calls);
    registry.register(
        "lua_errors",
        "Calls into scripts that ended with an error",
        errors,
    );
}

impl Tally for Metrics {
    fn called(&self, plugin: &str, operation: &'static str, outcome: CallOutcome) {
        self.plugin_call(plugin, operation, outcome.name());
    }
}

fn gauge(value: f64) -> Gauge<f64, AtomicU64> {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Moment;
    use crate::app::queue::report::Account;
    use crate::control::{GatewayStatus, ScheduleCounts};

    /// Everything there is, counted once.
    fn everything() -> String {
        let metrics = Metrics::default();
        metrics.send("a", &Err(Failure::new("smtp.unknown", "gone")));
        metrics.refresh("ok");
        metrics.schedule_run("daily", "ok", UNIX_EPOCH, Duration::from_secs(1));
        metrics.plugin_call("oauth", "obtain", "ok");
        metrics.reload(true);
        metrics.gateway_session("office");
        metrics.gateway_auth("office", "ok");
        metrics.gateway_message("office");
        metrics.gateway_refusal("office", "sender");
        let gateway = GatewayStatus {
            name: "office".to_owned(),
            listen: Vec::new(),
            tls: "starttls".into(),
            mode: "submit".into(),
            rehearses: false,
            account: "a".to_owned(),
            certificate_expires_at: None,
            certificate_is_self_made: true,
            certificate_problem: None,
            connections: 1,
            messages: 1,
            refused: 1,
            rehearsed: 0,
            failing: Vec::new(),
            waiting: Vec::new(),
        };
        let _counted = metrics.script("a.lua".to_owned(), Usage::default);
        let status = Status {
            version: "1.2.3".into(),
            pid: 1,
            state: "running".into(),
            started_at: Moment(UNIX_EPOCH),
            generation: 1,
            loaded_at: Moment(UNIX_EPOCH),
            config: None,
            state_dir: String::new(),
            scripts: Vec::new(),
            last_reload: None,
            restart_needed: Vec::new(),
            accounts: Vec::new(),
            schedules: ScheduleCounts::default(),
            gateways: vec![gateway],
            ledger: None,
        };
        metrics.queued("a", "delivered");
        let waits = Account {
            oldest: Some(Moment(UNIX_EPOCH)),
            ..Account::default()
        };
        let queue = Stats {
            accounts: [("a".to_owned(), waits)].into(),
            ..Stats::default()
        };
        metrics.render(&status, &[("fresh".to_owned(), 1)].into(), &queue)
    }

    /// Its samples' names and labels, as `name{label,label}`.
    fn samples(text: &str) -> BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let shape = |sample: &str| {
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let name = name.split(' ').next().unwrap_or_default();
            let labels = labels.split(',').filter_map(|label| label.split_once('='));
            let labels: Vec<&str> = labels.map(|(name, _)| name).collect();
            format!("{name}{{{}}}", labels.join(","))
        };
        samples.map(shape).collect()
    }

    #[test]
    fn the_book_has_all_metrics_with_their_labels_and_no_others() {
        let book = include_str!("../../../docs/src/serve.md");
        let rows = book
            .lines()
            .filter_map(|line| line.strip_prefix("| `postrider_"));
        let listed: BTreeSet<String> = rows
            .map(|row| {
                let mut cells = row.split('|');
                let name = cells
                    .next()
                    .unwrap_or_default()
                    .trim_end_matches(['`', ' ']);
                let labels = cells
                    .next()
                    .unwrap_or_default()
                    .replace(['`', ' ', '|'], "");
                format!("postrider_{name}{{{labels}}}")
            })
            .collect();
        assert_eq!(samples(&everything()), listed);
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        let text = everything();
        let mut kinds = 0;
        for line in text.lines() {
            let Some(kind) = line.strip_prefix("# TYPE ") else {
                continue;
            };
            kinds += 1;
            let (name, kind) = kind.split_once(' ').unwrap();
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(
                name.starts_with("postrider_") && name.chars().all(plain),
                "{name}"
            );
            // The format adds `_total`, and says so for counters alone.
            assert!(["counter", "gauge", "info"].contains(&kind), "{line}");
            assert!(
                !name.ends_with("_total") && !name.ends_with("_count"),
                "{name}"
            );
            let help = text
                .lines()
                .find_map(|line| line.strip_prefix(&format!("# HELP {name} ")));
            assert!(help.is_some_and(|help| help.ends_with('.')), "{name}");
        }
        assert!(kinds > 10);
        // Base units, and named.
        for name in [
            "lua_cpu",
            "lua_memory",
            "schedule_last_run_duration",
            "start_time",
        ] {
            let unit = if name == "lua_memory" {
                "bytes"
            } else {
                "seconds"
            };
            let line = format!("# UNIT postrider_{name}_{unit} {unit}");
            assert!(text.lines().any(|found| found == line), "{line}");
        }
    }
}
