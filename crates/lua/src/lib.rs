//! Lua 5.4 for operators: one script, its limits, and the `postrider` module.
//!
//! A script runs in a state of its own, sees no more of the system than the prelude lets it,
//! and is stopped when it exceeds its [`Limits`]. Whatever goes wrong is said with the line of
//! the script it happened at.
//!
//! Not here: how mail is sent or settings are kept; [`Backend`] is all the engine knows of that.
#![deny(unsafe_code)]
#![allow(
    clippy::result_large_err,
    reason = "a failure ends a send or a script; its size costs nothing"
)]

mod account;
mod activity;
mod actor;
mod backend;
mod beneath;
mod call;
mod config;
mod csv;
mod engine;
mod env;
mod event;
mod explain;
pub mod failure;
mod fault;
mod fs;
mod hook;
mod http;
mod json;
mod log;
mod message;
mod meter;
mod module;
mod pattern;
mod process;
pub mod request;
mod room;
mod schedule;
mod script;
mod secret;
mod shell;
mod sources;
pub mod suggest;
mod task;
mod template;
mod test;
mod text;
mod time;

pub use activity::{Activity, Asleep, Busy};
pub use backend::{
    AccountHandle, Attachment, Backend, HostEvent, Listener, Listeners, Permissions, Priority,
    Queueing, SecretRotation, SendRequest, Sent, Source, Token,
};
pub use failure::{Failure, SmtpFailure};
pub use fault::ScriptError;
pub use hook::{
    GatewayClient, GatewayHook, GatewayHooks, GatewayMail, GatewayMessage, GatewayPoint,
    GatewaySignIn, MessageHook, MessageHooks, Objection,
};
pub use process::{Ended, Program};
pub use script::{Loaded, Running, Script, Usage};
pub use shell::{Shell, is_incomplete};
pub use test::{Bench, Case, Scripted, Submitted, TestMode};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What one script may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory of the Lua state. 256 MiB: a few large attachments as Lua strings.
    pub memory_octets: usize,
    /// Time one call may run Lua, waiting excluded; the script's own lines are one call. 30 s:
    /// far more than glue code needs.
    pub cpu: Duration,
    /// Time from start to end of one call, waiting included. None: a script may send for hours.
    pub wall: Option<Duration>,
    /// Handlers and runs of schedules under way at one time; further ones wait their turn, and
    /// so do hooks among themselves. 64: each may wait for a slow server.
    pub calls: usize,
    /// Timers a script may have that are still to fire. 1000: more are a loop gone wrong.
    pub timers: usize,
    /// Time from start to end of the script's own lines, where they are loaded. 60 s: a few
    /// accounts may have to sign in.
    pub load_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_octets: 256 << 20,
            cpu: Duration::from_secs(30),
            wall: None,
            calls: 64,
            timers: 1000,
            load_timeout: Duration::from_mins(1),
        }
    }
}

/// Runs the script at `path` to its end.
///
/// It must be called within a tokio runtime. Dropping the future ends the script where it waits.
pub async fn run(
    path: &Path,
    args: &[String],
    backend: Arc<dyn Backend>,
    limits: Limits,
) -> Result<(), ScriptError> {
    Script::new(path, backend)
        .args(args)
        .limits(limits)
        .run()
        .await
}

/// Reads the script at `path` and says whether it is Lua, without running it.
pub fn check(path: &Path) -> Result<(), ScriptError> {
    let name = path.display().to_string();
    let source = script::read(path)?;
    engine::compile(&mlua::Lua::new(), &source, &name)
        .map(|_| ())
        .map_err(|error| ScriptError::syntax(&error, &name))
}
