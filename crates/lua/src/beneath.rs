//! Opening what lies beneath a directory, and nothing else.
//!
//! A path is resolved from the directory's own descriptor: `..`, an absolute path and a symbolic
//! link that leads out are refused by the kernel (`RESOLVE_BENEATH`) at the moment of opening,
//! so that nobody can swap a directory for a link in between. Where there is no `openat2`, no
//! link is followed at all. Pipes and devices are not opened for what is in them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat};
use rustix::io::Errno;

/// How to open a file for what is in it: without waiting for somebody at a pipe's other end.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// How to open a directory.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// Why a file beneath a directory cannot be had.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// There is none.
    Missing,
    /// The path leads out of the directory.
    Outside,
    /// It is a directory, a pipe or a device.
    NotRegular,
    /// It is longer than may be.
    TooLong(usize),
    /// Anything else.
    Io(io::Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no such file"),
            Self::Outside => f.write_str("it leads out of the directory"),
            Self::NotRegular => f.write_str("it is not a regular file"),
            Self::TooLong(most) => write!(f, "it is longer than {most} octets"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::Missing,
            // A link that is not followed is one that might lead out.
            Errno::XDEV | Errno::LOOP => Self::Outside,
            other => Self::Io(other.into()),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A directory that things are opened beneath. It may be reached by a link itself.
pub(crate) fn directory(path: &Path) -> Result<OwnedFd, Trouble> {
    // The directory of `script.lua` is called nothing.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    Ok(open(path, DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The directory `path` beneath `root`.
pub(crate) fn open_directory(root: impl AsFd, path: &Path) -> Result<OwnedFd, Trouble> {
    Ok(resolve(root, path, DIRECTORY)?)
}

/// What is in the regular file `path` beneath `root`, if it is not more than `most` octets.
pub(crate) fn read(root: impl AsFd, path: &Path, most: usize) -> Result<Vec<u8>, Trouble> {
    let file = resolve(root, path, FILE).map_err(|errno| match errno {
        // A socket; a device without a driver.
        Errno::NXIO | Errno::NODEV => Trouble::NotRegular,
        errno => errno.into(),
    })?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Trouble::NotRegular);
    }
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    if size > limit {
        return Err(Trouble::TooLong(most));
    }
    let mut octets = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    // It may have grown since.
    File::from(file)
        .take(limit.saturating_add(1))
        .read_to_end(&mut octets)?;
    if octets.len() > most {
        return Err(Trouble::TooLong(most));
    }
    Ok(octets)
}

#[cfg(target_os = "linux")]
fn resolve(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    use rustix::fs::{ResolveFlags, openat2};

    // A rename elsewhere in the tree makes the kernel unsure, and ask to try again.
    const TRIES: usize = 16;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN) => {}
            // Before Linux 5.6, and where a filter of system calls does not know it.
            Err(Errno::NOSYS | Errno::PERM) => return resolve_by_steps(root, path, flags),
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(not(target_os = "linux"))]
fn resolve(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    resolve_by_steps(root, path, flags)
}

/// The same, one name at a time and without following any link.
fn resolve_by_steps(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let step = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            _ => return Err(Errno::XDEV),
        }
    }
    let Some((last, folders)) = names.split_last() else {
        return openat(root, ".", flags, Mode::empty());
    };
    let mut at: Option<OwnedFd> = None;
    for name in folders {
        let from = at.as_ref().map_or(root.as_fd(), AsFd::as_fd);
        at = Some(openat(from, *name, step, Mode::empty())?);
    }
    let from = at.as_ref().map_or(root.as_fd(), AsFd::as_fd);
    openat(from, *last, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    type Resolve = fn(&OwnedFd, &Path, OFlags) -> Result<OwnedFd, Errno>;

    /// A tree with a secret beside it, and both ways of opening what is in it.
    fn each(check: impl Fn(&Path, Resolve)) {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("inside");
        fs::create_dir_all(inside.join("folder")).unwrap();
        fs::write(inside.join("folder/file"), "inside").unwrap();
        fs::write(folder.path().join("secret"), "outside").unwrap();
        check(&inside, |root, path, flags| resolve(root, path, flags));
        check(&inside, |root, path, flags| {
            resolve_by_steps(root, path, flags)
        });
    }

    #[test]
    fn what_lies_beneath_is_opened() {
        each(|inside, resolve| {
            let root = directory(inside).unwrap();
            for path in ["folder/file", "./folder//file"] {
                resolve(&root, Path::new(path), FILE).unwrap();
            }
            resolve(&root, Path::new("."), DIRECTORY).unwrap();
            resolve(&root, Path::new("folder"), DIRECTORY).unwrap();
        });
    }

    #[test]
    fn no_path_and_no_link_leads_out() {
        each(|inside, resolve| {
            let secret = inside.parent().unwrap().join("secret");
            let link = |name: &str, to: &Path| drop(symlink(to, inside.join(name)));
            link("up", Path::new(".."));
            link("absolute", &secret);
            link("relative", Path::new("../secret"));
            link("magic", Path::new("/proc/self/cwd"));
            link("round", Path::new("round"));
            let root = directory(inside).unwrap();
            let whole = secret.to_str().unwrap();
            for path in [
                "../secret",
                "folder/../../secret",
                "up/secret",
                "absolute",
                "relative",
                "magic",
                "round",
                whole,
            ] {
                let refused = resolve(&root, Path::new(path), FILE).unwrap_err();
                // A link in the middle, followed by nobody, is no directory.
                assert!(
                    matches!(refused, Errno::XDEV | Errno::LOOP | Errno::NOTDIR),
                    "{path}: {refused}"
                );
            }
        });
    }

    #[test]
    fn only_regular_files_of_bounded_length_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(folder.path().join("pipe"))
            .status();
        assert!(made.unwrap().success());
        fs::write(folder.path().join("long"), "12345").unwrap();
        let root = directory(folder.path()).unwrap();
        let read = |name: &str, most| super::read(&root, Path::new(name), most);
        assert_eq!(read("long", 5).unwrap(), b"12345");
        assert!(matches!(read("long", 4), Err(Trouble::TooLong(4))));
        assert!(matches!(read("none", 4), Err(Trouble::Missing)));
        assert!(matches!(read("long/x", 4), Err(Trouble::Missing)));
        assert!(matches!(read("pipe", 4), Err(Trouble::NotRegular)));
        assert!(matches!(read(".", 4), Err(Trouble::NotRegular)));
    }
}
