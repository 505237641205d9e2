//! Where plugins are looked for, and what one says of itself.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};
use std::sync::Arc;

use postrider_auth::{Description, Found, LoadedPlugin, Loader, LoaderSettings};
use postrider_config::Config;
use serde_json::Value;

use super::{AppSettings, load_config};
use crate::failure::Failure;

/// The plugins that a configuration makes available.
pub struct Plugins {
    loader: Loader,
    pins: BTreeMap<String, String>,
}

impl Plugins {
    /// Those of the shipped directories and of the configuration.
    ///
    /// # Errors
    /// Everything wrong with the configuration.
    pub fn open(settings: &AppSettings) -> Result<Self, Failure> {
        let config = load_config(settings, &postrider_config::Presets::builtin())?;
        Ok(Self {
            loader: loader(&config),
            pins: config.plugins.pins,
        })
    }

    /// What was found, and where.
    pub fn list(&self) -> Vec<Found> {
        self.loader.list()
    }

    /// Loads the plugin that `plugin` names, or the file it points to.
    ///
    /// # Errors
    /// Whatever kept it from being loaded.
    pub fn inspect(&self, plugin: &Path) -> Result<Arc<LoadedPlugin>, Failure> {
        if let Some(name) = plugin
            .to_str()
            .filter(|name| !name.contains(MAIN_SEPARATOR))
        {
            return load(&self.loader, name);
        }
        let path = std::path::absolute(plugin).map_err(|problem| {
            Failure::new(
                "file.unreadable",
                format!("{}: {problem}", plugin.display()),
            )
        })?;
        let pin = path
            .file_stem()
            .and_then(OsStr::to_str)
            .and_then(|stem| stem.strip_prefix("libpostrider_"))
            .and_then(|name| self.pins.get(name));
        self.loader
            .load_file(&path, pin.map(String::as_str))
            .map_err(|error| {
                Failure::new("plugin.not_loaded", error.to_string()).at(path.display().to_string())
            })
    }
}

/// Loads the plugin called `name`; where there is none, says which there are.
pub(super) fn load(loader: &Loader, name: &str) -> Result<Arc<LoadedPlugin>, Failure> {
    loader.load(name).map_err(|error| {
        let found = loader.list();
        let mut failure = Failure::new("plugin.not_loaded", error.to_string());
        failure.at = found
            .iter()
            .find(|plugin| plugin.name == name)
            .map(|plugin| plugin.path.display().to_string());
        match crate::suggest::nearest(name, found.iter().map(|plugin| plugin.name.as_str())) {
            Some(nearest) if nearest != name => {
                failure.with_remedy(format!("did you mean \"{nearest}\"?"))
            }
            _ => failure,
        }
    })
}

/// The loader that `config` asks for.
pub(super) fn loader(config: &Config) -> Loader {
    Loader::new(LoaderSettings {
        shipped: shipped_directories(),
        dirs: config.plugins.dirs.clone(),
        pins: config.plugins.pins.clone(),
    })
}

/// Beside the program (a build tree), then `lib/postrider` next to its `bin` (an installation).
fn shipped_directories() -> Vec<PathBuf> {
    let Ok(program) = env::current_exe().and_then(|path| path.canonicalize()) else {
        return Vec::new();
    };
    let Some(directory) = program.parent() else {
        return Vec::new();
    };
    let installed = directory
        .parent()
        .map(|prefix| prefix.join("lib").join("postrider"));
    [Some(directory.to_owned()), installed]
        .into_iter()
        .flatten()
        .filter(|candidate| candidate.is_dir())
        .collect()
}

/// One setting of a plugin, from its JSON Schema.
#[derive(Debug)]
pub struct Setting {
    /// The key.
    pub name: String,
    /// Whether it must be given by reference.
    pub secret: bool,
    /// The schema's description, on one line.
    pub doc: String,
}

/// The settings that a plugin's schema declares.
pub fn settings_of(description: &Description) -> Vec<Setting> {
    let schema = description.config_schema.as_value();
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Vec::new();
    };
    properties
        .iter()
        .map(|(name, property)| Setting {
            name: name.clone(),
            secret: property.get("x-postrider-secret") == Some(&Value::Bool(true)),
            doc: property
                .get("description")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" "),
        })
        .collect()
}
