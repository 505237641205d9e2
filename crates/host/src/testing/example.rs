//! Lua of the documentation, run in a world like a test's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Runtime;

use super::log::Log;
use super::stage::Stage;
use super::world::World;
use crate::failure::Failure;
use crate::lua::{Bench, Scripted};

/// How far the clock goes on after an example: what it plans within the hour happens.
const MEANWHILE: Duration = Duration::from_hours(1);

/// Runs examples, one after the other, on the thread that made it.
pub struct Examples {
    runtime: Runtime,
    stage: Arc<Stage>,
    log: Log,
    _listening: tracing::subscriber::DefaultGuard,
}

impl Examples {
    /// Starts the sandbox.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn new() -> Result<Self, Failure> {
        let log = Log::default();
        let listening = log.listen();
        let (runtime, stage) = Stage::build()?;
        Ok(Self {
            runtime,
            stage,
            log,
            _listening: listening,
        })
    }

    /// Runs `source`, in which `pr` is the API and `account` is the account "alerts", and lets an
    /// hour pass. `config` takes the place of the usual configuration; `files` are beside the
    /// script. Requests are answered with an empty JSON object. Answers what was logged and printed.
    ///
    /// # Errors
    /// What the example raised, or what it planned raised later.
    pub fn run(
        &self,
        source: &str,
        config: Option<&str>,
        files: &[(&str, &str)],
    ) -> Result<Vec<String>, Failure> {
        self.log.clear();
        let now: Timestamp = "2026-01-05T09:00:00Z".parse().unwrap_or_default();
        self.runtime.block_on(async {
            let world = World::open(&self.stage, now, Path::new(""), None, self.log.clone())?;
            let written = self.play(&world, source, config, files).await;
            world.close().await;
            written.map(|()| self.log.lines())
        })
    }

    async fn play(
        &self,
        world: &World,
        source: &str,
        config: Option<&str>,
        files: &[(&str, &str)],
    ) -> Result<(), Failure> {
        if let Some(config) = config {
            world.settle_in(config, &world.directory().join("postrider.toml"))?;
        }
        Bench::script(
            world,
            Scripted::Http {
                url: None,
                method: None,
                status: 200,
                headers: vec![("content-type".to_owned(), "application/json".to_owned())],
                body: b"{}".to_vec(),
                fails: None,
                times: None,
            },
        )?;
        let script = world.directory().join("example.lua");
        let given = "local pr = require \"postrider\"; local account = pr.account \"alerts\"; ";
        let source = if source.contains("require \"postrider\"") {
            source.to_owned()
        } else {
            format!("{given}{source}")
        };
        let all = files
            .iter()
            .map(|(name, text)| (world.directory().join(name), *text));
        for (path, text) in all.chain([(script.clone(), source.as_str())]) {
            std::fs::write(&path, text).map_err(|error| {
                Failure::new("file.failed", format!("{}: {error}", path.display()))
            })?;
        }
        world.load(&script.display().to_string(), &[]).await?;
        let later = Bench::now(world) + MEANWHILE;
        world.move_to(later).await
    }
}
