//! Logs on standard error: readable on a terminal, JSON otherwise.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what will fail if nobody looks.
    Warn,
    /// And what was done.
    Info,
    /// And how.
    Debug,
    /// And each step of it.
    Trace,
}

impl LogLevel {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Starts logging at `level`; without one, warnings, and what scripts say from information up.
///
/// Only Postrider's own events are logged beyond warnings: other crates' debug output may hold
/// what they send and receive.
pub fn start(level: Option<LogLevel>) {
    let own = level.unwrap_or(LogLevel::Warn).name();
    let scripts = level.unwrap_or(LogLevel::Info).name();
    let others = if own == "error" { "error" } else { "warn" };
    let filter = EnvFilter::new(format!(
        "{others},postrider={own},postrider_host={own},postrider_auth={own},\
         postrider_smtp={own},postrider_sandbox={own},postrider_vault={own},postrider::script={scripts}",
    ));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    // A second start in one process (tests) keeps the first.
    let _ = if io::stderr().is_terminal() {
        builder.with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
}
