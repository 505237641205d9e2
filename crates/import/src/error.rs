//! Why nothing could be imported.

use std::fmt;

use crate::left::Place;

/// Why nothing could be imported. It holds nothing of the file's but names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportError {
    /// Where.
    pub place: Place,
    /// What the caller can act on.
    pub kind: ImportErrorKind,
    /// What is wrong, one lower-case line.
    pub message: String,
}

/// The outcomes that call for different actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportErrorKind {
    /// The file is not of this format, or broken.
    Malformed,
    /// The file, or one that it names, cannot be read.
    Unreadable,
    /// The password decrypts nothing in the file.
    Password,
}

impl ImportError {
    pub(crate) fn malformed(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            kind: ImportErrorKind::Malformed,
            message: message.into(),
        }
    }

    pub(crate) fn unreadable(file: &str, message: impl Into<String>) -> Self {
        Self {
            place: Place::file(file),
            kind: ImportErrorKind::Unreadable,
            message: message.into(),
        }
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for ImportError {}
