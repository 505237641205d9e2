//! What can be wrong with a vault, told apart by what the reader has to do about it.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::{manifest, shard};

/// Why the vault did not do what was asked. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultError {
    /// What the caller can act on.
    pub kind: VaultErrorKind,
    /// The file or directory it is about; empty if it is about none.
    pub path: PathBuf,
    /// What happened, in one lower-case line without the path.
    pub message: String,
}

/// The outcomes that call for different actions.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VaultErrorKind {
    /// There is a key of the right sort, and it does not open this vault.
    WrongKey,
    /// The key that this vault is sealed with is not to be had here.
    NoKey,
    /// A file is shorter than it says it is.
    Truncated,
    /// A file's content is not what was written.
    Corrupt,
    /// A record stands in the place of another record, or comes from another vault.
    Swapped,
    /// A record, or a shard's ledger, is older than the vault knows it to be.
    RolledBack,
    /// A file is gone that the vault knows of.
    Missing,
    /// Others can read or change the file, or it belongs to somebody else.
    Unsafe,
    /// The file system does not take writes.
    ReadOnly,
    /// There is no room left; what was stored before is untouched.
    DiskFull,
    /// A name is empty, too long or holds control characters.
    Name,
    /// A value, an import or a file is larger than the vault takes.
    TooLarge,
    /// A newer Postrider wrote it.
    Unsupported,
    /// What was to be imported is not an export, or this identity does not open it; or what was to be
    /// exported cannot be sealed for this recipient.
    Transfer,
    /// Everything else the operating system answers.
    Io,
}

impl VaultErrorKind {
    /// The kind's stable name.
    pub fn name(self) -> &'static str {
        match self {
            VaultErrorKind::WrongKey => "wrong_key",
            VaultErrorKind::NoKey => "no_key",
            VaultErrorKind::Truncated => "truncated",
            VaultErrorKind::Corrupt => "corrupt",
            VaultErrorKind::Swapped => "swapped",
            VaultErrorKind::RolledBack => "rolled_back",
            VaultErrorKind::Missing => "missing",
            VaultErrorKind::Unsafe => "unsafe",
            VaultErrorKind::ReadOnly => "read_only",
            VaultErrorKind::DiskFull => "disk_full",
            VaultErrorKind::Name => "name",
            VaultErrorKind::TooLarge => "too_large",
            VaultErrorKind::Unsupported => "unsupported",
            VaultErrorKind::Transfer => "transfer",
            VaultErrorKind::Io => "io",
        }
    }
}

impl VaultError {
    pub(crate) fn new(kind: VaultErrorKind, path: &Path, message: impl Into<String>) -> VaultError {
        VaultError {
            kind,
            path: path.to_owned(),
            message: message.into(),
        }
    }

    /// Whether a file is not what was written, so that reading it again is no use.
    pub(crate) fn is_broken(&self) -> bool {
        use VaultErrorKind::{Corrupt, Missing, RolledBack, Swapped, TooLarge, Truncated};
        matches!(
            self.kind,
            Corrupt | Missing | RolledBack | Swapped | TooLarge | Truncated
        )
    }

    /// Whether one record is not what was written, and nothing else: putting it there again mends
    /// that.
    pub fn is_of_one_record(&self) -> bool {
        let shared = [manifest::FILE, shard::LEDGER_FILE].map(OsStr::new);
        let file = self.path.file_name();
        self.is_broken() && file.is_some_and(|file| !shared.contains(&file))
    }

    /// `doing` what with `path` met `error`.
    pub(crate) fn io(path: &Path, doing: &str, error: &io::Error) -> VaultError {
        let (kind, why) = match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => (
                VaultErrorKind::ReadOnly,
                "the file system is read-only".to_owned(),
            ),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
                VaultErrorKind::DiskFull,
                "no space is left; what was stored before is untouched".to_owned(),
            ),
            _ => (VaultErrorKind::Io, error.to_string()),
        };
        VaultError::new(kind, path, format!("cannot {doing}: {why}"))
    }
}

impl fmt::Display for VaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.as_os_str().is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.path.display(), self.message)
    }
}

impl std::error::Error for VaultError {}
