//! Files that a configuration names.

use zeroize::Zeroizing;

use crate::error::ImportError;

/// The longest file that is read.
pub const MAX_FILE_OCTETS: usize = 1 << 20;

/// Reads files for whoever imports.
pub trait Files {
    /// The text of the file at `path`, at most [`MAX_FILE_OCTETS`] long; none where there is none.
    ///
    /// # Errors
    /// Why it cannot be read, one lower-case line.
    fn read(&self, path: &str) -> Result<Option<Zeroizing<String>>, String>;
}

/// The text of a file that has to be there.
pub(crate) fn required(files: &dyn Files, path: &str) -> Result<Zeroizing<String>, ImportError> {
    match files.read(path) {
        Ok(Some(text)) if text.len() > MAX_FILE_OCTETS => {
            Err(ImportError::unreadable(path, "is longer than 1 MiB"))
        }
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(ImportError::unreadable(path, "there is no such file")),
        Err(why) => Err(ImportError::unreadable(path, why)),
    }
}

/// The text of a file that another one names, or why there is none.
pub(crate) fn named(files: &dyn Files, path: &str) -> Result<Zeroizing<String>, String> {
    match files.read(path)? {
        Some(text) if text.len() > MAX_FILE_OCTETS => Err("is longer than 1 MiB".to_owned()),
        Some(text) => Ok(text),
        None => Err("there is no such file".to_owned()),
    }
}
