//! Finding, trusting and loading plugins.
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postrider_plugin::wire::Description;

use crate::settings::{InstanceSettings, SettingsProblem};

/// Where plugins may come from.
#[derive(Clone, Debug, Default)]
pub struct LoaderSettings {
    /// Directories of the plugins that ship with the host: no pin needed.
    pub shipped: Vec<PathBuf>,
    /// Directories the operator configured, searched first to last after the shipped ones.
    pub dirs: Vec<PathBuf>,
    /// SHA-256 in hex by plugin name; required outside the shipped directories.
    pub pins: BTreeMap<String, String>,
}

/// Loads plugins, each content once.
#[derive(Debug)]
pub struct Loader {
    settings: LoaderSettings,
}

/// A plugin file that a [`Loader`] would consider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The plugin's name, from its file name.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Whether it lies in a shipped directory.
    pub shipped: bool,
}

/// Why a plugin was not loaded.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// No directory holds it.
    NotFound {
        /// The name that was asked for.
        name: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { name } => write!(f, "plugin {name:?} not found"),
        }
    }
}

impl std::error::Error for LoadError {}

impl Loader {
    /// A loader for these directories and pins.
    pub fn new(settings: LoaderSettings) -> Self {
        Self { settings }
    }

    /// Loads the plugin called `name`.
    pub fn load(&self, name: &str) -> Result<Arc<LoadedPlugin>, LoadError> {
        Err(LoadError::NotFound {
            name: name.to_owned(),
        })
    }

    /// Loads the plugin in this file.
    pub fn load_file(
        &self,
        path: &Path,
        pin: Option<&str>,
    ) -> Result<Arc<LoadedPlugin>, LoadError> {
        let _ = pin;
        Err(LoadError::NotFound {
            name: path.display().to_string(),
        })
    }

    /// Every plugin in the directories; where a name occurs twice, the first is the one
    /// that [`Loader::load`] takes.
    pub fn list(&self) -> Vec<Found> {
        let _ = &self.settings;
        Vec::new()
    }
}

/// A plugin, trusted and loaded for the rest of the process.
#[derive(Debug)]
pub struct LoadedPlugin {
    description: Description,
    path: PathBuf,
    sha256: String,
    shipped: bool,
}

impl LoadedPlugin {
    /// What the plugin says of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The file it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of the file, in lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Whether it came from a shipped directory.
    pub fn shipped(&self) -> bool {
        self.shipped
    }

    /// Everything wrong with these settings by the plugin's own schema.
    pub fn check_settings(&self, settings: &InstanceSettings) -> Result<(), Vec<SettingsProblem>> {
        let _ = settings;
        Ok(())
    }
}
