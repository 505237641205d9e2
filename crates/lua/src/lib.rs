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
mod backend;
mod call;
mod config;
mod engine;
mod event;
pub mod failure;
mod fault;
mod http;
mod json;
mod log;
mod message;
mod meter;
mod pattern;
pub mod request;
mod secret;
pub mod suggest;
mod task;
mod text;
mod time;

pub use backend::{
    AccountHandle, Attachment, Backend, HostEvent, Listener, Listeners, Priority, SendRequest,
    Sent, Source, Token,
};
pub use failure::{Failure, SmtpFailure};
pub use fault::ScriptError;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::{Engine, Output, World};
use meter::Meter;

/// What one script may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Memory of the Lua state. 256 MiB: a few large attachments as Lua strings.
    pub memory_octets: usize,
    /// Time spent running Lua, waiting excluded. 30 s: far more than glue code needs.
    pub cpu: Duration,
    /// Time from start to end, waiting included. None: a script may send for hours.
    pub wall: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_octets: 256 << 20,
            cpu: Duration::from_secs(30),
            wall: None,
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
    let source = read(path)?;
    engine::compile(&mlua::Lua::new(), &source, &name)
        .map(|_| ())
        .map_err(|error| ScriptError::syntax(&error, &name))
}

/// A script about to run.
pub struct Script {
    path: PathBuf,
    args: Vec<String>,
    backend: Arc<dyn Backend>,
    limits: Limits,
    output: Output,
}

impl Script {
    /// The script at `path`, with the default limits, printing to standard output.
    pub fn new(path: impl Into<PathBuf>, backend: Arc<dyn Backend>) -> Self {
        Self {
            path: path.into(),
            args: Vec::new(),
            backend,
            limits: Limits::default(),
            output: Arc::new(Mutex::new(std::io::stdout())),
        }
    }

    /// With these arguments.
    #[must_use]
    pub fn args(mut self, args: &[String]) -> Self {
        self.args = args.to_vec();
        self
    }

    /// Within these limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Printing there.
    #[must_use]
    pub fn output(mut self, output: Arc<Mutex<dyn Write + Send>>) -> Self {
        self.output = output;
        self
    }

    /// Reads the script and runs it to its end.
    pub async fn run(self) -> Result<(), ScriptError> {
        let name = self.path.display().to_string();
        let source = read(&self.path)?;
        let world = World {
            directory: self.path.parent().unwrap_or(Path::new("")).to_owned(),
            args: self.args.clone(),
            backend: self.backend,
            output: self.output,
        };
        let engine = Engine::new(world, Meter::new(self.limits)).map_err(|error| {
            let message = format!("lua cannot start: {}", fault::plain(&error));
            ScriptError::new(Failure::new("script.internal", message))
        })?;
        engine.run(&source, &name, &self.args).await
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ScriptError> {
    std::fs::read(path).map_err(|error| {
        let message = format!("cannot read the script {}: {error}", path.display());
        ScriptError::new(Failure::new("file.unreadable", message))
    })
}
