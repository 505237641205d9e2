//! Replacing a file in one step, without losing anybody's change.
//!
//! The lock is on the file itself (`flock`), so nothing is left lying about. Since the file is
//! replaced, whoever gets the lock looks again whether the name still leads to the same file,
//! and starts over if not.

use std::fs::{self, DirBuilder, File, Metadata, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Gid, Uid, fchown};
use rustix::process::geteuid;
use tempfile::NamedTempFile;

use crate::config::LIMIT_OCTETS;
use crate::edit::EditError;
use crate::regular::{self, NOT_REGULAR};

/// Another process holds the lock for milliseconds.
const LOCK_TIME: Duration = Duration::from_secs(10);
const LOCK_POLL: Duration = Duration::from_millis(5);
/// So often may somebody else change the file in the middle of an edit.
const ATTEMPTS: usize = 100;
/// So many links may lead to the file, as for the system (`path_resolution(7)`).
const LINKS: usize = 40;

/// The file's text; `None` if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, EditError> {
    match regular::open(path) {
        Ok(Some(file)) => text(path, &file).map(Some),
        Ok(None) => Err(refused(path, NOT_REGULAR)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, "cannot be read", error)),
    }
}

/// Replaces the file's text by what `change` makes of it; of no text if there is no file.
///
/// `change` is called again when somebody else changed the file in the meantime. Owner and
/// mode stay; a new file is for its owner only.
pub(crate) fn edit(
    path: &Path,
    change: impl Fn(&str) -> Result<String, EditError>,
) -> Result<(), EditError> {
    for _ in 0..ATTEMPTS {
        let target = follow(path)?;
        let done = match File::open(&target) {
            Ok(file) => edit_existing(&target, &file, &change)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(&target, &change)?,
            Err(error) => return Err(failed(path, "cannot be read", error)),
        };
        if done {
            return Ok(());
        }
    }
    Err(refused(path, "keeps changing while it is edited"))
}

/// Whether it was done; `false` when the file is no longer the one that was opened.
fn edit_existing(
    target: &Path,
    file: &File,
    change: &impl Fn(&str) -> Result<String, EditError>,
) -> Result<bool, EditError> {
    lock(target, file)?;
    let metadata = file
        .metadata()
        .map_err(|error| failed(target, "cannot be read", error))?;
    if !leads_to(target, &metadata) {
        return Ok(false);
    }
    let before = text(target, file)?;
    let after = change(&before)?;
    if after == before {
        return Ok(true);
    }
    let new = write_beside(target, &after, Some(&metadata))?;
    // Editors take no lock: look once more, as late as can be.
    if !leads_to(target, &metadata) || read(target)?.as_ref() != Some(&before) {
        return Ok(false);
    }
    new.persist(target)
        .map_err(|error| failed(target, "cannot be replaced", error.error))?;
    sync_directory(target)?;
    Ok(true)
}

/// Whether it was done; `false` when somebody else made the file first.
fn create(
    target: &Path,
    change: &impl Fn(&str) -> Result<String, EditError>,
) -> Result<bool, EditError> {
    let text = change("")?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory(target))
        .map_err(|error| failed(directory(target), "cannot be made", error))?;
    let new = write_beside(target, &text, None)?;
    match new.persist_noclobber(target) {
        Ok(_) => {
            sync_directory(target)?;
            Ok(true)
        }
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(target, "cannot be made", error.error)),
    }
}

/// The file that `path` leads to: a link is followed and stays, its target is replaced.
///
/// A link that somebody else made is refused: they could choose which file is written.
fn follow(path: &Path) -> Result<PathBuf, EditError> {
    let mut target = path.to_owned();
    for _ in 0..LINKS {
        let metadata = match fs::symlink_metadata(&target) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound && target == path => {
                return Ok(target);
            }
            Err(error) => return Err(failed(&target, "cannot be read", error)),
        };
        if metadata.is_file() {
            return Ok(target);
        }
        if !metadata.is_symlink() {
            return Err(refused(&target, NOT_REGULAR));
        }
        if metadata.uid() != 0 && metadata.uid() != geteuid().as_raw() {
            return Err(refused(&target, "is a link made by another user"));
        }
        let link =
            fs::read_link(&target).map_err(|error| failed(&target, "cannot be read", error))?;
        target = directory(&target).join(link);
    }
    Err(refused(path, "leads through too many links"))
}

fn lock(path: &Path, file: &File) -> Result<(), EditError> {
    let deadline = Instant::now() + LOCK_TIME;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) => {
                return Err(refused(path, "is locked by another process"));
            }
            Err(TryLockError::Error(error)) => {
                return Err(failed(path, "cannot be locked", error));
            }
        }
    }
}

/// Whether the name still leads to the file of which this is the metadata.
fn leads_to(target: &Path, metadata: &Metadata) -> bool {
    fs::symlink_metadata(target)
        .is_ok_and(|now| (now.dev(), now.ino()) == (metadata.dev(), metadata.ino()))
}

fn text(path: &Path, file: &File) -> Result<String, EditError> {
    let mut octets = Vec::new();
    let most = u64::try_from(LIMIT_OCTETS).unwrap_or(u64::MAX) + 1;
    file.take(most)
        .read_to_end(&mut octets)
        .map_err(|error| failed(path, "cannot be read", error))?;
    if octets.len() > LIMIT_OCTETS {
        return Err(refused(path, "is longer than 1 MiB"));
    }
    String::from_utf8(octets).map_err(|_| refused(path, "is not UTF-8"))
}

/// A file with `text`, on the disk, in the target's directory; owner and mode as `like`.
fn write_beside(
    target: &Path,
    text: &str,
    like: Option<&Metadata>,
) -> Result<NamedTempFile, EditError> {
    let not_written = |error| failed(target, "cannot be written", error);
    let mut new = tempfile::Builder::new()
        .prefix(".postrider-")
        .tempfile_in(directory(target))
        .map_err(not_written)?;
    new.write_all(text.as_bytes()).map_err(not_written)?;
    if let Some(like) = like {
        let own = new.as_file().metadata().map_err(not_written)?;
        if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
            let (user, group) = (Uid::from_raw(like.uid()), Gid::from_raw(like.gid()));
            fchown(new.as_file(), Some(user), Some(group)).map_err(|error| {
                failed(target, "belongs to others, who would lose it", error.into())
            })?;
        }
        let mode = fs::Permissions::from_mode(like.mode() & 0o777);
        new.as_file().set_permissions(mode).map_err(not_written)?;
    }
    new.as_file().sync_all().map_err(not_written)?;
    Ok(new)
}

/// After this, the new name survives a crash too.
fn sync_directory(target: &Path) -> Result<(), EditError> {
    let directory = directory(target);
    File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(|error| failed(directory, "cannot be synced", error))
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn refused(path: &Path, message: &str) -> EditError {
    EditError::File {
        path: path.to_owned(),
        message: message.to_owned(),
        source: None,
    }
}

fn failed(path: &Path, message: &str, source: io::Error) -> EditError {
    EditError::File {
        path: path.to_owned(),
        message: message.to_owned(),
        source: Some(source),
    }
}
