//! The daemon as its control server sees it, and how it says that it stands.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::app::{App, Moment};
use crate::failure::Failure;

/// A running `postrider serve`.
pub trait Daemon: Send + Sync + 'static {
    /// The accounts of the generation in force.
    fn app(&self) -> App;

    /// Loads everything anew; what was in force before stays so if anything of it is wrong.
    ///
    /// # Errors
    /// What is wrong, with its place.
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, Failure>>;

    /// How it stands.
    fn status(&self) -> Status;
}

/// A reload that was carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// Which generation is in force now; 1 is the first.
    pub generation: u64,
    /// How many scripts it has.
    pub scripts: usize,
    /// How long loading took, in seconds.
    pub took: f64,
    /// What changed in the configuration and takes a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart_needed: Vec<String>,
}

/// How a daemon stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Postrider's version.
    pub version: Cow<'static, str>,
    /// The process.
    pub pid: u32,
    /// `running`, `reloading` or `stopping`.
    pub state: Cow<'static, str>,
    /// When it started.
    pub started_at: Moment,
    /// Which generation is in force; 1 is the first.
    pub generation: u64,
    /// When that was loaded.
    pub loaded_at: Moment,
    /// The configuration's file.
    pub config: Option<String>,
    /// The state directory.
    pub state_dir: String,
    /// The scripts in force, in the order they were loaded.
    pub scripts: Vec<ScriptStatus>,
    /// The last attempt to reload, if there was one.
    pub last_reload: Option<LastReload>,
    /// What changed in the configuration and takes a restart.
    pub restart_needed: Vec<String>,
    /// The accounts of the configuration.
    pub accounts: Vec<AccountStatus>,
    /// How many schedules there are.
    pub schedules: ScheduleCounts,
    /// The gateways in force, in the order of their names.
    #[serde(default)]
    pub gateways: Vec<GatewayStatus>,
    /// The ledger of all gateways; none before there is a gateway.
    #[serde(default)]
    pub ledger: Option<LedgerStatus>,
}

/// How the ledger of gateways stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LedgerStatus {
    /// Why it cannot be written; mail goes on.
    pub trouble: Option<String>,
    /// When it was written last by this daemon.
    pub written_at: Option<Moment>,
    /// How many sums wait to be written.
    pub waiting: usize,
    /// How many observations were not counted at all since the daemon started.
    pub lost: u64,
}

/// One gateway of the generation in force. What is counted is counted since the daemon started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// Its name.
    pub name: String,
    /// The addresses it listens on.
    pub listen: Vec<SocketAddr>,
    /// `starttls`, `offered`, `implicit` or `danger_plaintext`.
    pub tls: Cow<'static, str>,
    /// `submit`, or `observe`.
    pub mode: Cow<'static, str>,
    /// Whether a rehearsal is on: it refuses devices as Exchange Online will.
    #[serde(default)]
    pub rehearses: bool,
    /// The account that mail goes through, where a device has none of its own.
    pub account: String,
    /// When its certificate ends.
    pub certificate_expires_at: Option<Moment>,
    /// Whether nobody gave it one, so that it made its own.
    pub certificate_is_self_made: bool,
    /// Why its certificate files, which have changed, cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_problem: Option<String>,
    /// Connections at this moment.
    pub connections: u64,
    /// Messages taken.
    pub messages: u64,
    /// Messages, recipients and sign-ins refused.
    pub refused: u64,
    /// Sign-ins refused for a rehearsal, and for nothing else.
    #[serde(default)]
    pub rehearsed: u64,
    /// Devices that failed lately, and have not succeeded since.
    pub failing: Vec<FailingDevice>,
    /// Accounts that its mail goes through, and that need a person; mail waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<AccountStatus>,
}

/// A device whose last attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingDevice {
    /// Its name, if it is that of a credential.
    pub device: Option<String>,
    /// Where it came from.
    pub client: IpAddr,
    /// When it failed last.
    pub at: Moment,
    /// What it was told.
    pub why: String,
    /// How often it failed in a row.
    pub count: u64,
}

/// One script of the generation in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScriptStatus {
    /// Its name: the file's.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Seconds it ran Lua.
    pub cpu: f64,
    /// The memory that it holds, in octets.
    pub memory: u64,
    /// Calls into it that began.
    pub calls: u64,
    /// Calls that ended with an error.
    pub errors: u64,
}

/// How an attempt to reload went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastReload {
    /// When.
    pub at: Moment,
    /// Whether the new generation is in force.
    pub ok: bool,
    /// Why it is not, with the place, or what is.
    pub message: String,
    /// What to do, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// One account of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccountStatus {
    /// Its name.
    pub name: String,
    /// `ready`, `needs_secret`, `setting_up`, or `failed`: set up again and again until it is
    /// there.
    pub state: Cow<'static, str>,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What to do about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl AccountStatus {
    /// It is `state`, because of `failure` if that is not ready.
    pub(crate) fn new(name: &str, state: &'static str, failure: Option<&Failure>) -> Self {
        Self {
            name: name.to_owned(),
            state: state.into(),
            message: failure.map(|failure| failure.message.clone()),
            remedy: failure.and_then(|failure| failure.remedy.clone()),
        }
    }
}

/// Schedules, counted.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ScheduleCounts {
    /// All.
    pub total: usize,
    /// Runs under way.
    pub running: usize,
    /// Paused ones.
    pub paused: usize,
}
