//! `pr.fs`: files beneath the directories that `[scripts.fs]` names.
//!
//! A relative path is looked for in those directories, in their order; an absolute one must
//! begin with one of them. How nothing leads out of them is [`beneath`]'s business. All work is
//! done by threads that may block.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;
use mlua::{Lua, Table};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, fchmod, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use tokio::sync::Semaphore;

use crate::Failure;
use crate::backend::Backend;
use crate::beneath::{self, Trouble};
use crate::call::{Args, Registrar, Reply, Work};
use crate::fault::Fault;

/// The longest file read or written.
const OCTETS: usize = 64 << 20;
/// The most names in one listing.
const NAMES: usize = 10_000;
/// How many of one script's files are worked on at once: each may be in memory as a whole.
const AT_ONCE: usize = 4;

/// Registers `pr.fs`.
pub(crate) fn register(registrar: &Registrar<'_>, backend: &Arc<dyn Backend>) -> mlua::Result<()> {
    let permissions = backend.permissions();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let readable = Roots::new("read", &permissions.read);
    let writable = Roots::new("write", &permissions.write);

    let (roots, turn) = (readable.clone(), Arc::clone(&turns));
    registrar.add_waiting("fs.read", move |_, mut args| {
        let path = path(&mut args)?;
        args.end()?;
        let roots = roots.clone();
        Ok(apart(&turn, move || {
            let octets = roots.first(&path, read)?;
            Ok(Reply::made(move |lua| lua.create_string(&octets)))
        }))
    })?;
    let (roots, turn) = (readable, Arc::clone(&turns));
    registrar.add_waiting("fs.list", move |_, mut args| {
        let path = path(&mut args)?;
        args.end()?;
        let roots = roots.clone();
        Ok(apart(&turn, move || {
            let entries = roots.first(&path, list)?;
            Ok(Reply::made(move |lua| table(lua, &entries)))
        }))
    })?;
    let (roots, turn) = (writable, turns);
    registrar.add_waiting("fs.write", move |_, mut args| {
        let path = path(&mut args)?;
        let octets = args.octets("octets")?;
        args.end()?;
        if octets.as_bytes().len() > OCTETS {
            return Err(Fault::failed(failed(&path, &Trouble::TooLong(OCTETS))));
        }
        let octets = octets.as_bytes().to_vec();
        let roots = roots.clone();
        Ok(apart(&turn, move || {
            roots.first(&path, |root, path| write(root, path, &octets))?;
            Ok(Reply::value(true))
        }))
    })
}

/// What is in a file that scripts may read; for modules which take a path.
pub(crate) fn read_allowed(backend: &Arc<dyn Backend>, path: &Path) -> Result<Vec<u8>, Failure> {
    Roots::new("read", &backend.permissions().read).first(path, read)
}

/// The next argument as a path; a name on a disk need not be UTF-8.
pub(crate) fn path(args: &mut Args) -> Result<PathBuf, Fault> {
    let octets = args.octets("path")?;
    let octets = octets.as_bytes();
    if octets.is_empty() || octets.contains(&0) {
        return Err(Fault::misuse("a path is not empty and holds no NUL"));
    }
    Ok(Path::new(OsStr::from_bytes(&octets)).to_owned())
}

/// Runs `work` where it may block, when it is its turn. Once begun it goes on to its end, whether
/// anybody waits for it or not, and its turn lasts as long.
pub(crate) fn apart(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<Reply, Failure> + Send + 'static,
) -> Work {
    let turns = Arc::clone(turns);
    async move {
        let turn = turns.acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        let done = done.await;
        let done = done.unwrap_or_else(|_| Err(Failure::new("internal", "a thread broke down")));
        done.map_err(Fault::failed)
    }
    .boxed()
}

/// The directories that one setting names.
#[derive(Clone)]
struct Roots {
    setting: &'static str,
    directories: Arc<[PathBuf]>,
}

impl Roots {
    fn new(setting: &'static str, directories: &[PathBuf]) -> Self {
        let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Self {
            setting,
            directories: directories.iter().map(whole).collect(),
        }
    }

    /// What `work` makes of `path` beneath the first directory that has it.
    fn first<T>(
        &self,
        path: &Path,
        work: impl Fn(&OwnedFd, &Path) -> Result<T, Trouble>,
    ) -> Result<T, Failure> {
        let mut last = None;
        for directory in &*self.directories {
            let beneath = if path.is_absolute() {
                match path.strip_prefix(directory) {
                    Ok(rest) => rest,
                    Err(_) => continue,
                }
            } else {
                path
            };
            let beneath = if beneath.as_os_str().is_empty() {
                Path::new(".")
            } else {
                beneath
            };
            let done = beneath::directory(directory).and_then(|root| work(&root, beneath));
            match done {
                Err(Trouble::Missing) => last = Some(Trouble::Missing),
                done => return done.map_err(|trouble| failed(path, &trouble)),
            }
        }
        Err(match last {
            Some(trouble) => failed(path, &trouble),
            None => self.not_allowed(path),
        })
    }

    fn not_allowed(&self, path: &Path) -> Failure {
        let setting = self.setting;
        let (message, remedy) = if self.directories.is_empty() {
            (
                format!("scripts may {setting} no files"),
                format!("name a directory in the configuration: [scripts.fs] {setting} = [\"/…\"]"),
            )
        } else {
            (
                format!("scripts may not {setting} {}", shown(path)),
                format!("add its directory to [scripts.fs] {setting} in the configuration"),
            )
        };
        Failure::new("file.not_allowed", message).with_remedy(remedy)
    }
}

fn failed(path: &Path, trouble: &Trouble) -> Failure {
    let code = match trouble {
        Trouble::Missing => "file.missing",
        Trouble::Outside => "file.not_allowed",
        Trouble::NotRegular => "file.not_regular",
        Trouble::TooLong(_) => "file.too_large",
        Trouble::Io(_) => "file.failed",
    };
    Failure::new(code, format!("{}: {trouble}", shown(path)))
}

/// A path for a message: on one line, and not long.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let short: String = text.chars().take(200).collect();
    short.replace(char::is_control, "\u{fffd}")
}

fn read(root: &OwnedFd, path: &Path) -> Result<Vec<u8>, Trouble> {
    beneath::read(root, path, OCTETS)
}

/// A name in a directory.
struct Entry {
    name: Vec<u8>,
    kind: &'static str,
    octets: u64,
    modified: i64,
}

fn list(root: &OwnedFd, path: &Path) -> Result<Vec<Entry>, Trouble> {
    let directory = beneath::open_directory(root, path)?;
    let mut entries = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entries.len() == NAMES {
            return Err(Trouble::Io(io::Error::other(format!(
                "there are more than {NAMES} names in it"
            ))));
        }
        // It may be gone by now.
        match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => entries.push(entry_of(name.to_bytes().to_vec(), &stat)),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn entry_of(name: Vec<u8>, stat: &Stat) -> Entry {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "link",
        _ => "other",
    };
    Entry {
        name,
        kind,
        octets: u64::try_from(stat.st_size).unwrap_or_default(),
        modified: stat.st_mtime,
    }
}

fn table(lua: &Lua, entries: &[Entry]) -> mlua::Result<Table> {
    let list = lua.create_table_with_capacity(entries.len(), 0)?;
    for entry in entries {
        let item = lua.create_table_with_capacity(0, 4)?;
        item.raw_set("name", lua.create_string(&entry.name)?)?;
        item.raw_set("kind", entry.kind)?;
        item.raw_set("octets", entry.octets)?;
        item.raw_set("modified", entry.modified)?;
        list.raw_push(item)?;
    }
    Ok(list)
}

/// Puts `octets` in the place of the file `path`, as a whole or not at all.
///
/// A new file is this user's alone; one that is replaced keeps its mode.
fn write(root: &OwnedFd, path: &Path, octets: &[u8]) -> Result<(), Trouble> {
    let Some(name) = path.file_name() else {
        return Err(Trouble::Outside);
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = beneath::open_directory(root, folder)?;
    let mode = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => None,
        Err(errno) => return Err(errno.into()),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
            return Err(Trouble::NotRegular);
        }
        Ok(stat) => Some(Mode::from_raw_mode(stat.st_mode)),
    };
    let unfinished = Unfinished::create(&folder, name)?;
    if let Some(mode) = mode {
        fchmod(&unfinished.file, mode & Mode::from_raw_mode(0o777))?;
    }
    let mut file = &unfinished.file;
    file.write_all(octets)?;
    file.sync_all()?;
    unfinished.put(name)?;
    Ok(())
}

/// A file that nobody is to see before it is complete; gone when it is dropped.
struct Unfinished<'d> {
    folder: &'d OwnedFd,
    name: Option<PathBuf>,
    file: File,
}

impl<'d> Unfinished<'d> {
    fn create(folder: &'d OwnedFd, beside: &OsStr) -> Result<Self, Trouble> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let process = std::process::id();
            // A long name is cut: with the rest it still has to be one.
            let stem: Vec<u8> = beside.as_bytes().iter().copied().take(200).collect();
            let mut name = b".".to_vec();
            name.extend(stem);
            name.extend(format!(".{process}-{number}.tmp").into_bytes());
            let name = PathBuf::from(std::ffi::OsString::from_vec(name));
            match openat(folder.as_fd(), &name, flags, Mode::from_raw_mode(0o600)) {
                Ok(file) => {
                    return Ok(Self {
                        folder,
                        name: Some(name),
                        file: File::from(file),
                    });
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn put(mut self, target: &OsStr) -> Result<(), Trouble> {
        if let Some(name) = self.name.take()
            && let Err(errno) = renameat(self.folder, &name, self.folder, target)
        {
            self.name = Some(name);
            return Err(errno.into());
        }
        // The new name, too, is to survive a loss of power.
        Ok(rustix::fs::fsync(self.folder)?)
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Nothing is lost if it stays: no name ends like this one.
            let _left_behind = unlinkat(self.folder, name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_still_takes_its_turn() {
        let turns = Arc::new(Semaphore::new(1));
        let (begun, is_begun) = tokio::sync::oneshot::channel();
        let (end, is_to_end) = mpsc::channel();
        let work = apart(&turns, move || {
            let _ = begun.send(());
            let _ = is_to_end.recv();
            Ok(Reply::value(true))
        });
        tokio::select! {
            _ = work => panic!("it has not ended"),
            begun = is_begun => begun.unwrap(),
        }

        assert_eq!(turns.available_permits(), 0);
        end.send(()).unwrap();
        assert!(turns.acquire().await.is_ok());
    }
}
