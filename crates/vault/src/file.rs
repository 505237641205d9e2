//! Files that only their owner can read, replaced whole or not at all.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::crash;
use crate::error::{VaultError, VaultErrorKind};

/// Whom a file may belong to, and who may read it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// This user, and nobody else reads it.
    Own,
    /// This user or root, and nobody else reads it.
    OwnOrRoot,
    /// As before, but a file of root may be readable by its group: systemd shows an access list
    /// of one user that way.
    Credential,
}

/// Makes a directory that only this user can enter, or checks the one there. Whether it was made.
pub(crate) fn make_dir(path: &Path) -> Result<bool, VaultError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => check_dir(path).map(|_| false),
        Err(error) => Err(VaultError::io(path, "make the directory", &error)),
    }
}

/// Makes the directories above `path`.
pub(crate) fn make_parents(path: &Path) -> Result<(), VaultError> {
    let parent = path.parent().unwrap_or(path);
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(parent)
        .map_err(|error| VaultError::io(parent, "make the directory", &error))
}

/// Whether there is such a directory; one that is not private to this user is an error.
///
/// Others who can only look are shut out here and now, since every file within is private anyhow.
/// Where they could write, somebody has to look at what they wrote.
pub(crate) fn check_dir(path: &Path) -> Result<bool, VaultError> {
    let flags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW);
    let directory = match open(path, flags) {
        Ok(directory) => directory,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) if is_link(&error) || error.kind() == ErrorKind::NotADirectory => {
            let message = "is not a directory of its own; remove what stands in its place";
            return Err(VaultError::new(VaultErrorKind::Unsafe, path, message));
        }
        Err(error) => return Err(VaultError::io(path, "open the directory", &error)),
    };
    let metadata = metadata(&directory, path)?;
    let mode = metadata.mode() & 0o7777;
    check_owner(&metadata, Trust::Own, path)?;
    if mode & 0o022 != 0 {
        let message = format!(
            "others can write in the directory (mode {mode:04o}); see what is in it, then chmod 700 it"
        );
        return Err(VaultError::new(VaultErrorKind::Unsafe, path, message));
    }
    if mode & 0o055 != 0 {
        directory
            .set_permissions(Permissions::from_mode(0o700))
            .map_err(|error| VaultError::io(path, "chmod 700 the directory", &error))?;
    }
    Ok(true)
}

/// A file's content; `None` if there is no such file.
pub(crate) fn read(
    path: &Path,
    most: u64,
    trust: Trust,
) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
    // A pipe would block.
    let file = match open(path, OFlags::NOFOLLOW.union(OFlags::NONBLOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if is_link(&error) => return Err(link(path)),
        Err(error) => return Err(VaultError::io(path, "open the file", &error)),
    };
    let metadata = metadata(&file, path)?;
    check_file(&metadata, trust, path)?;
    let too_large = || {
        let message = format!("is larger than {most} octets");
        VaultError::new(VaultErrorKind::TooLarge, path, message)
    };
    if metadata.len() > most {
        return Err(too_large());
    }
    // Room for all of it at once: a growing buffer leaves copies behind.
    let room = usize::try_from(metadata.len()).map_err(|_| too_large())?;
    let mut octets = Zeroizing::new(Vec::with_capacity(room + 1));
    (&file)
        .take(most + 1)
        .read_to_end(&mut octets)
        .map_err(|error| VaultError::io(path, "read the file", &error))?;
    if u64::try_from(octets.len()).unwrap_or(u64::MAX) > most {
        return Err(too_large());
    }
    Ok(Some(octets))
}

/// A new content for a file, on the disk but under another name. Dropped, it is gone.
pub(crate) struct Staged<'a> {
    aside: PathBuf,
    path: &'a Path,
    step: &'a str,
    kept: bool,
}

/// Writes `octets` beside `path`. Nobody else may be doing so: the caller holds a lock.
pub(crate) fn stage<'a>(
    path: &'a Path,
    octets: &[u8],
    mode: u32,
    step: &'a str,
) -> Result<Staged<'a>, VaultError> {
    let staged = Staged {
        aside: aside(path),
        path,
        step,
        kept: false,
    };
    remove(&staged.aside)?;
    staged
        .write(octets, mode)
        .map_err(|error| VaultError::io(path, "write the file", &error))?;
    Ok(staged)
}

/// Where a file's new content stands until it is placed.
pub(crate) fn aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    aside.into()
}

impl Staged<'_> {
    fn write(&self, octets: &[u8], mode: u32) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&self.aside)?;
        crash::step(self.step, "created");
        file.write_all(octets)?;
        crash::step(self.step, "written");
        file.sync_all()?;
        crash::step(self.step, "synced");
        Ok(())
    }

    /// Leaves it where it is, even if it is never placed.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }

    /// Puts it in the file's place. Durable once the directory is synced.
    pub(crate) fn place(mut self) -> Result<(), VaultError> {
        fs::rename(&self.aside, self.path)
            .map_err(|error| VaultError::io(self.path, "replace the file", &error))?;
        self.kept = true;
        crash::step(self.step, "placed");
        Ok(())
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.aside);
        }
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), VaultError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| VaultError::io(path, "sync the directory", &error))
}

/// Makes the name of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), VaultError> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Removes a file; whether there was one.
pub(crate) fn remove(path: &Path) -> Result<bool, VaultError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(VaultError::io(path, "remove the file", &error)),
    }
}

/// Opens the file that stands for a lock, and makes it if it is not there.
pub(crate) fn lock_file(path: &Path) -> Result<File, VaultError> {
    let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK);
    let opened = match open(path, flags) {
        // Made only if missing: a lock can be taken where nothing can be written.
        Err(error) if error.kind() == ErrorKind::NotFound => OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(bits(flags))
            .open(path),
        opened => opened,
    };
    let file = opened.map_err(|error| {
        if is_link(&error) {
            link(path)
        } else {
            VaultError::io(path, "open the lock file", &error)
        }
    })?;
    check_file(&metadata(&file, path)?, Trust::Own, path)?;
    Ok(file)
}

/// Waits until nobody else holds the lock. It ends with the file's closing.
pub(crate) fn lock(path: &Path, shared: bool) -> Result<File, VaultError> {
    let file = lock_file(path)?;
    loop {
        let locked = if shared {
            file.lock_shared()
        } else {
            file.lock()
        };
        match locked {
            Ok(()) => return Ok(file),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(VaultError::io(path, "lock the file", &error)),
        }
    }
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(bits(flags))
        .open(path)
}

fn bits(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).unwrap_or(0)
}

fn metadata(file: &File, path: &Path) -> Result<Metadata, VaultError> {
    file.metadata()
        .map_err(|error| VaultError::io(path, "look at the file", &error))
}

fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

fn link(path: &Path) -> VaultError {
    let message = "is a symbolic link; name the file itself";
    VaultError::new(VaultErrorKind::Unsafe, path, message)
}

fn check_file(metadata: &Metadata, trust: Trust, path: &Path) -> Result<(), VaultError> {
    if !metadata.is_file() {
        let message = "is not a regular file";
        return Err(VaultError::new(VaultErrorKind::Unsafe, path, message));
    }
    check_owner(metadata, trust, path)?;
    let mode = metadata.mode() & 0o7777;
    let others = match trust {
        Trust::Credential if metadata.uid() == 0 => 0o037,
        _ => 0o077,
    };
    if mode & others == 0 {
        return Ok(());
    }
    let can = if mode & 0o022 == 0 { "read" } else { "change" };
    let message = format!(
        "others can {can} the file (mode {mode:04o}); ask who did, then chmod {} it",
        if trust == Trust::Own { "600" } else { "400" }
    );
    Err(VaultError::new(VaultErrorKind::Unsafe, path, message))
}

fn check_owner(metadata: &Metadata, trust: Trust, path: &Path) -> Result<(), VaultError> {
    let own = rustix::process::geteuid().as_raw();
    let owner = metadata.uid();
    if owner == own || (owner == 0 && trust != Trust::Own) {
        return Ok(());
    }
    let message = format!(
        "belongs to user {owner}, and this process runs as user {own}; run it as user {owner}, \
         or chown what is to be {own}'s"
    );
    Err(VaultError::new(VaultErrorKind::Unsafe, path, message))
}
