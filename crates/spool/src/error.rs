//! Why the queue did not do what it was asked.

use std::fmt;
use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

/// Why the queue did not do what it was asked. Nothing of it was done then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolError {
    /// What kind of trouble it is.
    pub kind: SpoolErrorKind,
    /// The file or the message, and what the system says.
    pub message: String,
}

/// The kinds of trouble that call for different actions.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpoolErrorKind {
    /// The disk is full: what is queued is safe, and there is no room for more.
    Full,
    /// It cannot be written: no permission, a read-only file system.
    ReadOnly,
    /// Another process held it for too long: try again.
    Busy,
    /// What is on the disk is not what was written.
    Corrupt,
    /// A newer Postrider wrote it.
    Newer,
    /// There is no such message.
    NotFound,
    /// Somebody else took over what the caller held.
    Fenced,
    /// The message is larger than the queue takes.
    TooLarge,
    /// Something else the system says.
    Io,
}

impl SpoolErrorKind {
    /// A word for it, the same for ever: `full`, `read_only`, `busy`…
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Busy => "busy",
            Self::Corrupt => "corrupt",
            Self::Newer => "newer",
            Self::NotFound => "not_found",
            Self::Fenced => "fenced",
            Self::TooLarge => "too_large",
            Self::Io => "io",
        }
    }
}

impl SpoolError {
    /// An error in one bounded line.
    pub fn new(kind: SpoolErrorKind, message: &str) -> Self {
        let message: String = message.chars().take(300).collect();
        let message = message.replace(|c: char| c.is_control(), " ");
        Self { kind, message }
    }

    /// The same, about a file.
    pub(crate) fn at(kind: SpoolErrorKind, path: &Path, what: &str) -> Self {
        let what: String = what.chars().take(200).collect();
        Self::new(kind, &format!("{}: {what}", path.display()))
    }

    /// What the system says about a file.
    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                SpoolErrorKind::ReadOnly
            }
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => SpoolErrorKind::Full,
            _ => SpoolErrorKind::Io,
        };
        Self::at(kind, path, &error.to_string())
    }

    /// The process that was to do it is ending.
    pub(crate) fn ending() -> Self {
        Self::new(SpoolErrorKind::Io, "the process is ending")
    }
}

impl From<rusqlite::Error> for SpoolError {
    fn from(error: rusqlite::Error) -> Self {
        let kind = match &error {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                    return Self::new(SpoolErrorKind::Busy, "the queue is held by another process");
                }
                // The last one: a table or a column is not there.
                ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::Unknown => {
                    SpoolErrorKind::Corrupt
                }
                ErrorCode::ReadOnly | ErrorCode::PermissionDenied => SpoolErrorKind::ReadOnly,
                ErrorCode::DiskFull => SpoolErrorKind::Full,
                ErrorCode::TooBig => SpoolErrorKind::TooLarge,
                _ => SpoolErrorKind::Io,
            },
            rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::QueryReturnedNoRows => SpoolErrorKind::Corrupt,
            _ => SpoolErrorKind::Io,
        };
        Self::new(kind, &format!("the queue (spool.db): {error}"))
    }
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SpoolError {}
