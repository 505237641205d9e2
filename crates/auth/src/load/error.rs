//! Why a plugin was not loaded.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use postrider_plugin::abi;

/// Why a plugin was not loaded.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// No directory holds it.
    NotFound {
        /// The name that was asked for.
        name: String,
        /// Where it was looked for.
        directories: Vec<PathBuf>,
    },
    /// The path is not absolute, or contains `.` or `..`.
    NotAbsolute {
        /// The path.
        path: PathBuf,
    },
    /// The file or a directory above it could not be opened or read.
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path leads through a symbolic link.
    Symlink {
        /// The link.
        component: PathBuf,
    },
    /// It is a directory, a device, ….
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file or a directory above it belongs to another user.
    ForeignOwner {
        /// Which one.
        component: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Others may write to the file or to a directory above it.
    Writable {
        /// Which one.
        component: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A plugin from outside the shipped set has no pin.
    NoPin {
        /// The file.
        path: PathBuf,
        /// The plugin's name.
        name: String,
        /// Its SHA-256.
        found: String,
    },
    /// The file is not the one that was pinned.
    OtherContent {
        /// The file.
        path: PathBuf,
        /// The SHA-256 it should have.
        pinned: String,
        /// The SHA-256 it has.
        found: String,
    },
    /// The system's loader refused it.
    NotLoadable {
        /// What the loader said.
        reason: String,
    },
    /// The library lacks the one symbol of a plugin.
    NoSymbol,
    /// The symbol's function returned no table.
    NoTable,
    /// The table does not start as one.
    WrongMagic {
        /// What stands there.
        found: u32,
    },
    /// The table is of another major version.
    WrongMajor {
        /// Which one.
        found: u16,
    },
    /// The table says it is smaller than a table is.
    TooSmall {
        /// What it says.
        found: usize,
        /// What the smallest is.
        needed: usize,
    },
    /// A function is missing from the table.
    NullFunction {
        /// Which one.
        name: &'static str,
    },
    /// Loading or describing did not return in time.
    Unresponsive {
        /// The time it had.
        deadline: Duration,
    },
    /// The system gave no thread to load it on.
    NoThread(io::Error),
    /// What it says of itself makes no sense.
    Description {
        /// Why.
        reason: String,
    },
    /// It calls itself something else than its file.
    OtherName {
        /// The file.
        path: PathBuf,
        /// What it calls itself.
        described: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { name, directories } => {
                write!(f, "no plugin called {name:?}")?;
                for (i, directory) in directories.iter().enumerate() {
                    let before = if i == 0 { " in " } else { ", " };
                    write!(f, "{before}{}", directory.display())?;
                }
                Ok(())
            }
            Self::NotAbsolute { path } => write!(
                f,
                "{} is not an absolute path without . and ..",
                path.display()
            ),
            Self::Unreadable { path, .. } => write!(f, "cannot read {}", path.display()),
            Self::Symlink { component } => write!(
                f,
                "{} is a symbolic link: name the plugin by its real path",
                component.display()
            ),
            Self::NotAFile { path } => write!(f, "{} is no regular file", path.display()),
            Self::ForeignOwner { component, uid } => write!(
                f,
                "{} belongs to user {uid}, neither root nor this one, who could replace the plugin",
                component.display()
            ),
            Self::Writable { component, mode } => write!(
                f,
                "{} has mode {mode:04o}: others could replace the plugin (chmod go-w)",
                component.display()
            ),
            Self::NoPin { path, name, found } => write!(
                f,
                "{} does not ship with postrider and has no pin; to trust it, add to the config: plugins.pins.{name} = \"{found}\"",
                path.display()
            ),
            Self::OtherContent {
                path,
                pinned,
                found,
            } => write!(
                f,
                "{} has changed: its sha-256 is {found}, pinned is {pinned}",
                path.display()
            ),
            Self::NotLoadable { reason } => write!(f, "not a loadable library: {reason}"),
            Self::NoSymbol => write!(
                f,
                "not a postrider plugin: it has no symbol {}",
                abi::SYMBOL.to_string_lossy()
            ),
            Self::NoTable => f.write_str("the plugin returned no function table"),
            Self::WrongMagic { found } => write!(
                f,
                "the plugin's table starts with {found:#010x} instead of the magic {:#010x}",
                abi::MAGIC
            ),
            Self::WrongMajor { found } => write!(
                f,
                "the plugin speaks abi {found}, this host speaks abi {}",
                abi::MAJOR
            ),
            Self::TooSmall { found, needed } => write!(
                f,
                "the plugin's table claims {found} octets, the smallest has {needed}"
            ),
            Self::NullFunction { name } => {
                write!(f, "the plugin's table has no function {name}")
            }
            Self::Unresponsive { deadline } => write!(
                f,
                "the plugin did not load and describe itself within {} ms",
                deadline.as_millis()
            ),
            Self::NoThread(_) => f.write_str("no thread to load the plugin on"),
            Self::Description { reason } => {
                write!(f, "the plugin's description is not usable: {reason}")
            }
            Self::OtherName { path, described } => {
                write!(f, "{} calls itself {described:?}", path.display())
            }
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } | Self::NoThread(source) => Some(source),
            _ => None,
        }
    }
}
