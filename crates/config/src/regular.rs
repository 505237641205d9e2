//! Opening files that are files: a pipe or a device would block, or never end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub(crate) const NOT_REGULAR: &str = "is not a regular file";

/// The file for reading; `None` if it is not a regular one.
pub(crate) fn open(path: &Path) -> io::Result<Option<File>> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}
