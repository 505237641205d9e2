//! Whether a plugin file may be trusted, decided before any of its code can run.
//!
//! The path is walked from the root by open directories, following no symbolic link, and
//! every component, the file included, must be out of the reach of other users: owned by
//! root or by us, and writable by nobody else. What was checked is what stays open.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, open, openat, statat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::LoadError;

/// A file that passed, open for reading.
pub(super) struct Trusted {
    pub(super) file: fs::File,
    /// Owned by root: not even we can change it.
    pub(super) root_owned: bool,
}

/// Only looked through, not read: needs no more than search permission.
const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
#[cfg(target_os = "linux")]
const LOOK: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const LOOK: OFlags = OFlags::RDONLY;

/// `NONBLOCK` so that a FIFO is refused rather than waited for.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

/// Opens the file at `path` if it and every directory above it can be trusted.
pub(super) fn open_trusted(path: &Path) -> Result<Trusted, LoadError> {
    let not_absolute = || LoadError::NotAbsolute {
        path: path.to_owned(),
    };
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => names.push(name),
            Component::CurDir | Component::ParentDir | Component::Prefix(_) => {
                return Err(not_absolute());
            }
        }
    }
    let (Some((file_name, directories)), true) = (names.split_last(), path.is_absolute()) else {
        return Err(not_absolute());
    };

    let owners = Owners::now();
    let mut at = PathBuf::from("/");
    let mut directory =
        open("/", DIRECTORY | LOOK, Mode::empty()).map_err(|errno| unreadable(&at, errno))?;
    owners.check_directory(&at, &stat_of(&at, &directory)?)?;
    for name in directories {
        at.push(name);
        directory = openat(&directory, *name, DIRECTORY | LOOK, Mode::empty())
            .map_err(|errno| refused(&directory, name.as_ref(), &at, errno))?;
        owners.check_directory(&at, &stat_of(&at, &directory)?)?;
    }

    at.push(file_name);
    let file = openat(&directory, *file_name, FILE, Mode::empty())
        .map_err(|errno| refused(&directory, file_name.as_ref(), &at, errno))?;
    let stat = stat_of(&at, &file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(LoadError::NotAFile { path: at });
    }
    owners.check(&at, &stat)?;
    Ok(Trusted {
        file: fs::File::from(file),
        root_owned: stat.st_uid == 0,
    })
}

fn stat_of(at: &Path, fd: &OwnedFd) -> Result<Stat, LoadError> {
    fstat(fd).map_err(|errno| unreadable(at, errno))
}

/// Why a component could not be opened: the kernel says `ELOOP` or `ENOTDIR` for a
/// symbolic link, depending on the flags.
fn refused(directory: impl AsFd, name: &Path, at: &Path, errno: Errno) -> LoadError {
    let is_link = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
    if is_link {
        LoadError::Symlink {
            component: at.to_owned(),
        }
    } else {
        unreadable(at, errno)
    }
}

fn unreadable(at: &Path, errno: Errno) -> LoadError {
    LoadError::Unreadable {
        path: at.to_owned(),
        source: io::Error::from(errno),
    }
}

#[allow(clippy::useless_conversion, reason = "narrower on some systems")]
fn mode_of(stat: &Stat) -> u32 {
    stat.st_mode.into()
}

/// Whom we trust: root, and the user we run as.
struct Owners {
    us: u32,
    /// A group that is nobody's but ours, if there is one.
    own_group: Option<u32>,
}

impl Owners {
    fn now() -> Self {
        let us = geteuid().as_raw();
        let own_group = match (
            fs::read_to_string("/etc/passwd"),
            fs::read_to_string("/etc/group"),
        ) {
            (Ok(passwd), Ok(group)) => private_group(us, &passwd, &group),
            _ => None,
        };
        Self { us, own_group }
    }

    /// Owned by us or root, writable by nobody else.
    fn check(&self, at: &Path, stat: &Stat) -> Result<(), LoadError> {
        if stat.st_uid != 0 && stat.st_uid != self.us {
            return Err(LoadError::ForeignOwner {
                component: at.to_owned(),
                uid: stat.st_uid,
            });
        }
        let by_others = mode_of(stat) & 0o002 != 0;
        let by_group = mode_of(stat) & 0o020 != 0 && self.own_group != Some(stat.st_gid);
        if by_others || by_group {
            return Err(LoadError::Writable {
                component: at.to_owned(),
                mode: mode_of(stat) & 0o7777,
            });
        }
        Ok(())
    }

    /// As [`Owners::check`], but root's sticky directories pass although anybody may write
    /// to them: there an entry is renamed or removed only by its owner, the directory's
    /// owner, or root, and the entry we go on to is checked to be owned by root or by us.
    fn check_directory(&self, at: &Path, stat: &Stat) -> Result<(), LoadError> {
        if stat.st_uid == 0 && mode_of(stat) & 0o1000 != 0 {
            return Ok(());
        }
        self.check(at, stat)
    }
}

/// The primary group of user `us`, if no other account belongs to it.
///
/// Where each user has a group of their own, the usual umask is 002 and everything they
/// make is writable by that group; refusing it would refuse every home directory there.
/// Debian's OpenSSH makes the same exception. Only the local files are read: a user whom a
/// directory service knows has no such group here, and is held to the plain rule.
fn private_group(us: u32, passwd: &str, group: &str) -> Option<u32> {
    let users: Vec<(&str, u32, u32)> = passwd
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some((name, uid, gid))
        })
        .collect();
    let &(name, _, gid) = users.iter().find(|(_, uid, _)| *uid == us)?;
    let shared = users
        .iter()
        .any(|(_, uid, primary)| *primary == gid && *uid != us);
    // A group may go by several names, each with members of its own.
    let members: Vec<&str> = group
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let id: u32 = fields.nth(2)?.parse().ok()?;
            (id == gid).then(|| fields.next().unwrap_or(""))
        })
        .collect();
    let only_us = members
        .iter()
        .flat_map(|members| members.split(','))
        .all(|member| member.is_empty() || member == name);
    (!members.is_empty() && !shared && only_us).then_some(gid)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn file_in(directory: &Path) -> PathBuf {
        let path = directory.join("libpostrider_x.so");
        fs::write(&path, b"not a library").unwrap();
        set_mode(&path, 0o644);
        path
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn error(path: &Path) -> LoadError {
        open_trusted(path).err().expect("refused")
    }

    #[test]
    fn a_file_of_ours_under_a_sticky_directory_passes() {
        let directory = tempfile::tempdir().unwrap();
        assert!(open_trusted(&file_in(directory.path())).is_ok());
    }

    #[test]
    fn a_relative_or_dotted_path_is_refused() {
        for path in ["plugin.so", "./plugin.so", "/tmp/../plugin.so", "/", ""] {
            assert!(matches!(
                error(path.as_ref()),
                LoadError::NotAbsolute { .. }
            ));
        }
    }

    #[test]
    fn a_file_others_may_write_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = file_in(directory.path());
        for mode in [0o646, 0o666] {
            set_mode(&path, mode);
            match error(&path) {
                LoadError::Writable { component, mode: m } => {
                    assert_eq!((component, m), (path.clone(), mode));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_parent_others_may_write_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let parent = directory.path().join("plugins");
        fs::create_dir(&parent).unwrap();
        let path = file_in(&parent);
        set_mode(&parent, 0o777);

        assert!(
            matches!(error(&path), LoadError::Writable { component, .. } if component == parent)
        );
    }

    #[test]
    fn a_sticky_directory_counts_only_when_it_is_roots() {
        let owners = Owners {
            us: 1000,
            own_group: None,
        };
        let directory = tempfile::tempdir().unwrap();
        let mut stat = rustix::fs::stat(directory.path()).unwrap();
        stat.st_mode = 0o041_777;
        stat.st_uid = 0;
        assert!(owners.check_directory("/tmp".as_ref(), &stat).is_ok());
        stat.st_uid = 1000;
        assert!(owners.check_directory("/tmp".as_ref(), &stat).is_err());
    }

    #[test]
    fn a_group_of_our_own_may_write_and_another_may_not() {
        let owners = Owners {
            us: 1000,
            own_group: Some(1000),
        };
        let directory = tempfile::tempdir().unwrap();
        let mut stat = rustix::fs::stat(directory.path()).unwrap();
        stat.st_mode = 0o040_775;
        stat.st_uid = 1000;
        stat.st_gid = 1000;
        assert!(owners.check("/home/a".as_ref(), &stat).is_ok());
        stat.st_gid = 100;
        assert!(owners.check("/home/a".as_ref(), &stat).is_err());
        stat.st_gid = 1000;
        stat.st_mode = 0o040_777;
        assert!(owners.check("/home/a".as_ref(), &stat).is_err());
    }

    #[test]
    fn a_stranger_is_no_owner() {
        let owners = Owners {
            us: 1000,
            own_group: None,
        };
        let directory = tempfile::tempdir().unwrap();
        let mut stat = rustix::fs::stat(directory.path()).unwrap();
        stat.st_mode = 0o100_644;
        for (uid, trusted) in [(0, true), (1000, true), (1001, false)] {
            stat.st_uid = uid;
            assert_eq!(owners.check("/x".as_ref(), &stat).is_ok(), trusted);
        }
    }

    #[test]
    fn a_symbolic_link_anywhere_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        fs::create_dir(&real).unwrap();
        set_mode(&real, 0o755);
        let path = file_in(&real);
        let link = directory.path().join("link");
        symlink(&real, &link).unwrap();
        let file_link = real.join("other.so");
        symlink(&path, &file_link).unwrap();

        let through_directory = link.join("libpostrider_x.so");
        assert!(
            matches!(error(&through_directory), LoadError::Symlink { component } if component == link)
        );
        assert!(
            matches!(error(&file_link), LoadError::Symlink { component } if component == file_link)
        );
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let parent = directory.path().join("d.so");
        fs::create_dir(&parent).unwrap();
        set_mode(&parent, 0o755);
        assert!(matches!(error(&parent), LoadError::NotAFile { .. }));
        assert!(matches!(
            error(&directory.path().join("absent.so")),
            LoadError::Unreadable { .. }
        ));
    }

    #[test]
    fn a_group_is_private_when_no_other_account_is_in_it() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n";
        let group = "root:x:0:\nann:x:1000:\nbob:x:1001:ann\n";
        assert_eq!(private_group(1000, passwd, group), Some(1000));
        assert_eq!(private_group(1001, passwd, group), None, "ann is in it");
        assert_eq!(private_group(1002, passwd, group), None, "unknown user");

        let shared = format!("{passwd}eve:x:1002:1000::/:/bin/sh\n");
        assert_eq!(private_group(1000, &shared, group), None, "eve's primary");
        assert_eq!(private_group(1000, passwd, "root:x:0:\n"), None);

        let twice = format!("{group}staff:x:1000:bob\n");
        assert_eq!(
            private_group(1000, passwd, &twice),
            None,
            "bob, by its other name"
        );
    }
}
