//! The offline Microsoft 365, on its own or inside `postrider run --sandbox`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postrider_config::{Presets, SandboxAddress};
use postrider_sandbox::inbox::StoredMessage;
use postrider_sandbox::{Sandbox, SandboxOptions, Scenario, StartError};
use secrecy::SecretString;

use super::AppSettings;
use crate::failure::{Failure, with_sources};
use crate::state;

/// The name under which a sandbox is reached: its certificate carries it.
pub(crate) const HOST: &str = "localhost";

/// Where `run --sandbox` keeps its messages, in the state directory.
const RUN_DIRECTORY: &str = "run-sandbox";
const IN_USE: &str = "network.sandbox_in_use";

/// What `postrider sandbox` can be told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The scenario's file; the built-in one if there is none.
    pub scenario: Option<PathBuf>,
    /// Where the CA and the messages are kept.
    pub dir: Option<PathBuf>,
    /// Port of the submission server, 0 for any.
    pub smtp_port: u16,
    /// Port of Entra ID, 0 for any.
    pub entra_port: u16,
    /// Port of the inbox and the control API, 0 for any.
    pub control_port: u16,
}

/// Starts a sandbox.
///
/// # Errors
/// What is wrong with the scenario or the directory, or which port is taken.
pub async fn start(settings: &AppSettings, options: Options) -> Result<Sandbox, Failure> {
    let scenario = match &options.scenario {
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|problem| {
                Failure::new("file.unreadable", format!("{}: {problem}", path.display()))
            })?;
            Scenario::from_toml(&text).map_err(|error| {
                Failure::new("config.scenario", error.to_string()).at(path.display().to_string())
            })?
        }
        None => Scenario::default(),
    };
    let dir = match options.dir {
        Some(dir) => dir,
        None => state::directory(settings.state_dir.as_deref())?.join("sandbox"),
    };
    launch(SandboxOptions {
        scenario,
        dir: Some(dir),
        smtp_port: options.smtp_port,
        entra_port: options.entra_port,
        control_port: options.control_port,
        ..SandboxOptions::default()
    })
    .await
}

async fn launch(options: SandboxOptions) -> Result<Sandbox, Failure> {
    Sandbox::start(options).await.map_err(|error| {
        let said = with_sources(&error);
        let failure = Failure::new("network.sandbox", &said);
        match error {
            StartError::InUse(_) => {
                Failure::new(IN_USE, said).with_remedy("name another directory with --dir")
            }
            StartError::Listen(..) => {
                failure.with_remedy("choose another port, or 0 for any that is free")
            }
            _ => failure,
        }
    })
}

/// A sandbox that stands in for Microsoft 365 while one script runs.
pub struct Embedded {
    sandbox: Sandbox,
}

impl Embedded {
    /// Starts one in a directory of its own, so that runs do not disturb each other, nor a
    /// sandbox that runs for longer.
    ///
    /// # Errors
    /// As for [`start`].
    pub async fn start(settings: &AppSettings, scenario: Option<&Path>) -> Result<Self, Failure> {
        let state = state::directory(settings.state_dir.as_deref())?;
        let options = |dir: PathBuf| Options {
            scenario: scenario.map(Path::to_owned),
            dir: Some(dir),
            ..Options::default()
        };
        let usual = state.join(RUN_DIRECTORY);
        let own = state.join(format!("{RUN_DIRECTORY}-{}", std::process::id()));
        let started = match start(settings, options(usual)).await {
            Err(failure) if failure.code == IN_USE => start(settings, options(own)).await,
            started => started,
        };
        started.map(|sandbox| Self { sandbox })
    }

    /// Where it is.
    pub fn address(&self) -> SandboxAddress {
        SandboxAddress {
            smtp_host: HOST.to_owned(),
            smtp_port: self.sandbox.smtp_addr().port(),
            authority: self.sandbox.authority().clone(),
            ca_file: self.sandbox.ca_file(),
        }
    }

    /// The presets, with every Microsoft 365 pointed here.
    pub fn presets(&self) -> Presets {
        let mut presets = Presets::builtin();
        presets.point_microsoft365_at(self.address());
        presets
    }

    /// The secrets that the sandbox's configuration names by environment variable, where the
    /// environment has none: a script then needs no set-up at all.
    pub fn environment(&self) -> BTreeMap<String, SecretString> {
        self.sandbox
            .environment()
            .into_iter()
            .filter(|(name, _)| std::env::var_os(name).is_none())
            .map(|(name, value)| (name.to_owned(), SecretString::from(value)))
            .collect()
    }

    /// What arrived.
    pub fn messages(&self) -> Vec<Arc<StoredMessage>> {
        self.sandbox.inbox().messages()
    }

    /// Stops it; the messages stay.
    pub async fn stop(self) {
        self.sandbox.stop().await;
    }
}
