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

/// Starts logging. Only Postrider's own events are logged beyond warnings: other crates'
/// debug output may hold what they send and receive.
pub fn start(level: LogLevel) {
    let filter = EnvFilter::new(format!(
        "{},postrider={level},postrider_host={level},postrider_auth={level},\
         postrider_smtp={level},postrider_sandbox={level}",
        if level == LogLevel::Error {
            "error"
        } else {
            "warn"
        },
        level = level.name(),
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
