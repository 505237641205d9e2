//! `[serve]`: how the daemon is controlled, watched and stopped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::check::Context;
use crate::grammar::{self, Fault};
use crate::problem::{Problems, quote};
use crate::section::Section;

/// Long enough for a message that the server is taking (RFC 5321 §4.5.3.2 allows ten minutes),
/// short enough for systemd, which waits for 90 s.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// A change is noticed soon after the editor is closed, at the cost of a few calls of `stat`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// `[serve]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeSettings {
    /// The control socket; by default in the state directory.
    pub socket: Option<PathBuf>,
    /// Where metrics and health are served, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// How long calls under way may take to end.
    pub shutdown_timeout: Duration,
    /// Whether changed files are noticed.
    pub watch: bool,
    /// How often is looked for changed files.
    pub watch_interval: Duration,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            socket: None,
            metrics: None,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            watch: true,
            watch_interval: WATCH_INTERVAL,
        }
    }
}

pub(crate) fn check(
    section: &Section<'_>,
    context: &Context<'_>,
    problems: &mut Problems,
) -> ServeSettings {
    let metrics = section
        .text("metrics")
        .and_then(|text| grammar::listen(text).ok());
    let anywhere = section.flag("danger_metrics_anywhere") == Some(true);
    if let Some(address) = metrics
        && !address.ip().is_loopback()
        && !anywhere
    {
        let fault = Fault::with(
            format!(
                "{} can be reached from elsewhere",
                quote(&address.to_string())
            ),
            format!(
                "write \"127.0.0.1:{}\"; if the network itself is trusted, add danger_metrics_anywhere = true",
                address.port()
            ),
        );
        section.fault("metrics", fault, problems);
    }
    let default = ServeSettings::default();
    let wait = |name, default| section.duration(name).unwrap_or(default);
    ServeSettings {
        socket: section.path("socket", context.base),
        metrics,
        shutdown_timeout: wait("shutdown_timeout", default.shutdown_timeout),
        watch: section.flag("watch").unwrap_or(default.watch),
        watch_interval: wait("watch_interval", default.watch_interval),
    }
}
