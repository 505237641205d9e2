//! Finding, trusting and loading plugins.
//!
//! Loading a library runs its constructors, so everything that can be known without
//! running it is checked first: the path, its owners and permissions ([`trust`]), and the
//! SHA-256 of exactly the octets that are then loaded ([`image`]). Only then comes the ABI
//! ([`code`]) and what the plugin says of itself ([`describe`]). A plugin is trusted code:
//! these checks decide whose code runs, not what it does.
//!
//! The same content is loaded once, and nothing is ever unloaded.

#[allow(unsafe_code, reason = "loading a library and reading its table")]
mod code;
pub(crate) mod describe;
mod error;
mod image;
mod trust;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postrider_plugin::wire::{Description, Op};

use crate::call::{self, Functions};
use crate::settings::{InstanceSettings, SettingsProblem, check};
use code::Code;
pub use error::LoadError;
use image::Image;

/// A plugin's file name is this, its name, and [`SUFFIX`].
const PREFIX: &str = "libpostrider_";
const SUFFIX: &str = std::env::consts::DLL_SUFFIX;

/// Where plugins may come from.
#[derive(Clone, Debug, Default)]
pub struct LoaderSettings {
    /// Directories of the plugins that ship with the host: no pin needed.
    pub shipped: Vec<PathBuf>,
    /// Directories the operator configured, searched after the shipped ones, in order.
    pub dirs: Vec<PathBuf>,
    /// SHA-256 in hex by plugin name; required outside the shipped directories, and heeded
    /// inside them too.
    pub pins: BTreeMap<String, String>,
}

/// Loads plugins, each content once.
#[derive(Debug)]
pub struct Loader {
    settings: LoaderSettings,
    deadline: Duration,
    loaded: Mutex<HashMap<String, Arc<Code>>>,
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

impl Loader {
    /// A loader for these directories and pins.
    pub fn new(settings: LoaderSettings) -> Self {
        Self {
            settings,
            deadline: call::DEADLINE,
            loaded: Mutex::default(),
        }
    }

    /// With this much time for each call into a plugin, rather than two seconds.
    #[must_use]
    pub fn with_call_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Loads the plugin called `name` from the first directory that has it.
    pub fn load(&self, name: &str) -> Result<Arc<LoadedPlugin>, LoadError> {
        if !describe::is_name(name) {
            return Err(LoadError::NotFound {
                name: name.to_owned(),
                directories: Vec::new(),
            });
        }
        let file_name = format!("{PREFIX}{name}{SUFFIX}");
        let (path, shipped) = self
            .directories()
            .map(|(directory, shipped)| (directory.join(&file_name), shipped))
            .find(|(path, _)| fs::symlink_metadata(path).is_ok())
            .ok_or_else(|| LoadError::NotFound {
                name: name.to_owned(),
                directories: self.directories().map(|(path, _)| path.clone()).collect(),
            })?;
        let pin = self.settings.pins.get(name).map(String::as_str);
        self.open(&path, shipped, pin)
    }

    /// Loads the plugin in this file, wherever it lies; it needs a pin.
    pub fn load_file(
        &self,
        path: &Path,
        pin: Option<&str>,
    ) -> Result<Arc<LoadedPlugin>, LoadError> {
        self.open(path, false, pin)
    }

    /// Every plugin file in the directories, one for each name: the one [`Loader::load`]
    /// would take. Nothing is opened.
    pub fn list(&self) -> Vec<Found> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for (directory, shipped) in self.directories() {
            let Ok(entries) = fs::read_dir(directory) else {
                continue;
            };
            for path in entries.flatten().map(|entry| entry.path()) {
                if let Some(name) = name_of(&path)
                    && seen.insert(name.to_owned())
                {
                    found.push(Found {
                        name: name.to_owned(),
                        shipped,
                        path,
                    });
                }
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    fn directories(&self) -> impl Iterator<Item = (&PathBuf, bool)> {
        let shipped = self.settings.shipped.iter().map(|path| (path, true));
        shipped.chain(self.settings.dirs.iter().map(|path| (path, false)))
    }

    fn open(
        &self,
        path: &Path,
        shipped: bool,
        pin: Option<&str>,
    ) -> Result<Arc<LoadedPlugin>, LoadError> {
        let trusted = trust::open_trusted(path)?;
        let image = Image::of(trusted, path).map_err(|source| LoadError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let sha256 = image.sha256.clone();
        check_pin(path, shipped, pin, &sha256)?;

        let code = {
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(code) = loaded.get(&sha256) {
                Arc::clone(code)
            } else {
                let code = Arc::new(Code::load(image, self.deadline)?);
                loaded.insert(sha256.clone(), Arc::clone(&code));
                code
            }
        };
        let described = &code.description.name;
        if let Some(name) = name_of(path)
            && name != described
        {
            return Err(LoadError::OtherName {
                path: path.to_owned(),
                described: described.clone(),
            });
        }
        Ok(Arc::new(LoadedPlugin {
            code,
            path: path.to_owned(),
            sha256,
            shipped,
            deadline: self.deadline,
        }))
    }
}

/// The plugin name in a file name.
fn name_of(path: &Path) -> Option<&str> {
    let name = path
        .file_name()?
        .to_str()?
        .strip_prefix(PREFIX)?
        .strip_suffix(SUFFIX)?;
    describe::is_name(name).then_some(name)
}

/// Whether the file is the one the operator meant.
fn check_pin(path: &Path, shipped: bool, pin: Option<&str>, sha256: &str) -> Result<(), LoadError> {
    match pin {
        Some(pin) if pin.eq_ignore_ascii_case(sha256) => Ok(()),
        Some(pin) => Err(LoadError::OtherContent {
            path: path.to_owned(),
            pinned: pin.to_owned(),
            found: sha256.to_owned(),
        }),
        None if shipped => Ok(()),
        None => Err(LoadError::NoPin {
            path: path.to_owned(),
            name: name_of(path).unwrap_or("NAME").to_owned(),
            found: sha256.to_owned(),
        }),
    }
}

/// A plugin, trusted and loaded for the rest of the process.
#[derive(Debug)]
pub struct LoadedPlugin {
    code: Arc<Code>,
    path: PathBuf,
    sha256: String,
    shipped: bool,
    deadline: Duration,
}

impl LoadedPlugin {
    /// What the plugin says of itself.
    pub fn description(&self) -> &Description {
        &self.code.description
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

    /// Everything wrong with these settings by the plugin's own schema. No value is shown.
    pub fn check_settings(&self, settings: &InstanceSettings) -> Result<(), Vec<SettingsProblem>> {
        check(self.description(), &self.code.validator, settings)
    }

    pub(crate) fn name(&self) -> &str {
        &self.description().name
    }

    pub(crate) fn has(&self, op: Op) -> bool {
        self.description().ops.contains(&op)
    }

    pub(crate) fn functions(&self) -> Functions {
        self.code.functions
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }
}

#[cfg(test)]
impl LoadedPlugin {
    /// A plugin whose table is in this process already.
    #[allow(unsafe_code, reason = "a table made by a test")]
    pub(crate) fn from_table(
        table: &postrider_plugin::abi::AuthV1,
        deadline: Duration,
    ) -> Arc<Self> {
        // SAFETY: tests pass tables that the kit or the test itself made.
        let functions = unsafe { Functions::of(table) }.unwrap();
        let (_, output) = functions.describe();
        let (description, validator) = describe::parse(&output.unwrap()).unwrap();
        Arc::new(Self {
            code: Arc::new(Code {
                functions,
                description,
                validator,
            }),
            path: PathBuf::new(),
            sha256: String::new(),
            shipped: true,
            deadline,
        })
    }
}
