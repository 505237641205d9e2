//! Where plugins are looked for, and what one says of itself.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postrider_auth::{Description, LoadError, LoadedPlugin, Loader, LoaderSettings};
use postrider_config::Config;
use serde_json::Value;

use super::{AppSettings, load_config};
use crate::failure::Failure;

/// A loader for the shipped directories and those of the configuration.
pub fn open(settings: &AppSettings) -> Result<Loader, Failure> {
    let config = load_config(settings, &postrider_config::Presets::builtin())?;
    Ok(loader(&config))
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

/// Loads the plugin that `plugin` names, or the file it points to.
///
/// # Errors
/// Whatever kept it from being loaded.
pub fn inspect(loader: &Loader, plugin: &Path) -> Result<Arc<LoadedPlugin>, Failure> {
    let name = plugin
        .to_str()
        .filter(|name| !name.contains(std::path::MAIN_SEPARATOR));
    let outcome = if let Some(name) = name {
        loader.load(name)
    } else {
        let path = plugin.canonicalize().map_err(|problem| {
            Failure::new(
                "file.unreadable",
                format!("{}: {problem}", plugin.display()),
            )
        })?;
        loader.load_file(&path, None)
    };
    outcome.map_err(|error| load_failure(&error))
}

/// A [`LoadError`] with advice.
pub(super) fn load_failure(error: &LoadError) -> Failure {
    Failure::new("plugin.not_loaded", error.to_string())
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
