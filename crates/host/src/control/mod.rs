//! The control socket: commands talk to the daemon where one runs.
//!
//! HTTP/1.1 with JSON over a Unix socket, so that `curl --unix-socket` works. Only the user whose
//! daemon it is gets to it, and root: the socket is 0600, stands in a directory that nobody else
//! can write to, and whoever connects is asked for at the kernel. An answer holds a secret only
//! where it was asked for one: `POST /v1/accounts/NAME/token`.
//!
//! What a command does alone and what the daemon does for it are the same functions, in
//! `work`; so both ways give the same answer.

mod client;
mod daemon;
pub(crate) mod http;
mod message;
mod patience;
mod routes;
pub(crate) mod schedules;
mod socket;
pub(crate) mod work;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::app::Moment;
use crate::app::RenewalStanding;
use crate::app::queue::report::Stats;
use crate::failure::Failure;

pub(crate) use client::{Client, Trouble, UNREACHABLE, socket_path};
pub use daemon::{
    AccountStatus, Daemon, FailingDevice, GatewayStatus, LastReload, LedgerStatus, Reloaded,
    ScheduleCounts, ScriptStatus, Status,
};
pub use socket::ControlListener;
pub(crate) use socket::{Purpose, SocketFile};

/// The socket's name in the state directory, where the configuration names no other.
pub const SOCKET: &str = "control.sock";

/// The version of what is spoken. A client does not talk to a daemon of another.
pub(crate) const API: u32 = 1;

/// Who is there: the answer to `GET /v1/hello`, which costs nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// What is spoken.
    pub(crate) api: u32,
    /// Postrider's version.
    pub(crate) version: String,
    /// The process.
    pub(crate) pid: u32,
    /// The configuration's file, canonical.
    pub(crate) config: Option<String>,
    /// The state directory, canonical.
    pub(crate) state_dir: String,
}

/// How the daemon stands, and its accounts: the answer to `GET /v1/status`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Standing {
    #[serde(flatten)]
    pub(crate) status: Status,
    /// How many accounts there are in each state of their credential.
    pub(crate) tokens: BTreeMap<String, usize>,
    /// The schedules that run next, the soonest first.
    #[serde(default)]
    pub(crate) next_runs: Vec<NextRun>,
    /// Mail that waits, or why nobody knows.
    #[serde(default)]
    pub(crate) queue: QueueStanding,
    /// Renewals of secrets that are under way or failed.
    #[serde(default)]
    pub(crate) renewals: Vec<RenewalStanding>,
}

/// How the queue stands.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct QueueStanding {
    /// How much is where.
    #[serde(flatten)]
    pub(crate) stats: Stats,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<Box<Failure>>,
}

/// A schedule, and when it runs next.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NextRun {
    /// Its name; its plan, where it has none.
    pub(crate) schedule: String,
    pub(crate) script: String,
    pub(crate) at: Moment,
}

/// Answers on the socket until `stop` is there, then lets requests under way end.
///
/// The caller bounds the latter: what is still under way when this is dropped breaks off.
pub async fn serve(
    listener: ControlListener,
    daemon: Arc<dyn Daemon>,
    stop: impl Future<Output = ()> + Send,
) {
    http::serve(listener, routes::router(daemon), http::CONTROL, stop).await;
}

/// A path as both sides of the socket compare it.
pub(crate) fn canonical(path: &Path) -> String {
    let path = path
        .canonicalize()
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned());
    path.to_string_lossy().into_owned()
}

/// A failure as it travels: with the text that the command line prints in its place.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    error: Failure,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    report: Option<String>,
}

impl From<Failure> for Refusal {
    fn from(mut error: Failure) -> Self {
        let report = error.report.take();
        Self { error, report }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let mut failure = refusal.error;
        failure.report = refusal.report;
        failure
    }
}
