//! Which files a generation was made of, and whether they are others now.
//!
//! Files are looked at, not listened to: that sees every way of replacing a file, on every file
//! system. A change counts once the files have stood still from one look to the next, for an
//! editor writes in pieces, and only if what is in them differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ring::digest::{Context, SHA256};
use rustix::fs::OFlags;

/// Files are stamped with the time of the kernel's last tick: one that is younger than this when
/// loading begins may have been changed since.
const TICK: Duration = Duration::from_millis(20);

/// What tells a file from what was at its path before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    octets: u64,
    modified: (i64, i64),
    /// Also moves when another file is put in place with its old times.
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            octets: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// What is in a file; `None` where none can be read.
type Content = Option<[u8; 32]>;

fn content(path: &Path) -> Content {
    // A pipe in a file's place is not waited for.
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut options = File::options();
    let mut file = options
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut digest = Context::new(&SHA256);
    let mut octets = [0; 16 * 1024];
    loop {
        match file.read(&mut octets) {
            Ok(0) => return digest.finish().as_ref().try_into().ok(),
            Ok(count) => digest.update(octets.get(..count)?),
            Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// The files at one look.
type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// Files whose change is to be noticed.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// How they were when they were loaded, or found to be the same again.
    known: Stamps,
    /// Of these nobody knows in which state they were loaded: they count as changed.
    uncertain: BTreeSet<PathBuf>,
    /// What was in them; absent where that is not certain.
    contents: BTreeMap<PathBuf, Content>,
    /// How they were at the last look, if it was not as known.
    unsettled: Option<Stamps>,
}

/// How files are before they are read.
#[derive(Debug)]
pub(super) struct Before {
    watch: Watch,
    since: SystemTime,
}

impl Before {
    /// Takes down how `files` are now, as far as they are known before loading.
    pub(super) fn reading(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut before = Self {
            watch: Watch::default(),
            since: SystemTime::now(),
        };
        before.also(files);
        before
    }

    /// These too; they have not been read yet.
    pub(super) fn also(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        for path in files {
            if !self.watch.known.contains_key(&path) {
                self.watch.take_down(&path);
            }
        }
    }

    /// The watch over these and over `more`, which loading turned out to read.
    pub(super) fn and(self, more: impl IntoIterator<Item = PathBuf>) -> Watch {
        let mut watch = self.watch;
        for path in more {
            if watch.known.contains_key(&path) {
                continue;
            }
            let changed = fs::metadata(&path).and_then(|found| found.modified());
            let settled = changed.is_ok_and(|at| at + TICK < self.since);
            watch.take_down(&path);
            if !settled {
                watch.contents.remove(&path);
                watch.uncertain.insert(path);
            }
        }
        watch
    }

    /// The watch over what loading read, and nothing else.
    pub(super) fn only(self, read: &BTreeSet<PathBuf>) -> Watch {
        let mut watch = self.and(read.iter().cloned());
        watch.known.retain(|path, _| read.contains(path));
        watch.contents.retain(|path, _| read.contains(path));
        watch.uncertain.retain(|path| read.contains(path));
        watch
    }
}

impl Watch {
    fn take_down(&mut self, path: &Path) {
        // The stamp first: what changes between the two is seen at the next look.
        self.known.insert(path.to_owned(), Stamp::of(path));
        self.contents.insert(path.to_owned(), content(path));
    }

    /// The files.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.known.keys()
    }

    /// Looks at the files, and at `present`: those that would be loaded now. Says which of them
    /// changed, once they stand still.
    pub(super) fn look(&mut self, present: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
        let mut now: Stamps = present
            .into_iter()
            .chain(self.known.keys().cloned())
            .map(|path| (path, None))
            .collect();
        for (path, stamp) in &mut now {
            *stamp = Stamp::of(path);
        }
        let differs = |path: &PathBuf, stamp: &Option<Stamp>| {
            self.uncertain.contains(path) || self.known.get(path).copied().flatten() != *stamp
        };
        if !now.iter().any(|(path, stamp)| differs(path, stamp)) {
            self.unsettled = None;
            return Vec::new();
        }
        if self.unsettled.as_ref() != Some(&now) {
            self.unsettled = Some(now);
            return Vec::new();
        }
        let touched: Vec<PathBuf> = now
            .iter()
            .filter(|(path, stamp)| differs(path, stamp))
            .map(|(path, _)| path.clone())
            .collect();
        self.unsettled = None;
        self.known = now;
        self.uncertain.clear();
        touched
            .into_iter()
            .filter(|path| {
                let found = content(path);
                self.contents.insert(path.clone(), found) != Some(found)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// A directory with files that were there before anybody looked.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn with(files: &[(&str, &str)]) -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            for (name, text) in files {
                folder.write(name, text);
            }
            folder
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            // A file system's time moves by ticks: two writes of one length within a tick look
            // alike, and in life nobody is that quick.
            let before = Stamp::of(&self.path(name));
            loop {
                fs::write(self.path(name), text).unwrap();
                if Stamp::of(&self.path(name)) != before {
                    return;
                }
                thread::yield_now();
            }
        }

        fn all(&self) -> Vec<PathBuf> {
            let entries = fs::read_dir(self.0.path()).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect()
        }

        fn watch(&self) -> Watch {
            Before::reading(self.all()).and([])
        }
    }

    #[test]
    fn a_change_counts_once_the_file_stands_still() {
        let folder = Folder::with(&[("a.lua", "one"), ("b.lua", "b")]);
        let mut watch = folder.watch();
        assert!(watch.look(folder.all()).is_empty());

        folder.write("a.lua", "");
        assert!(watch.look(folder.all()).is_empty(), "just now");
        folder.write("a.lua", "tw");
        assert!(watch.look(folder.all()).is_empty(), "still being written");
        folder.write("a.lua", "two");
        assert!(watch.look(folder.all()).is_empty(), "still being written");

        assert_eq!(watch.look(folder.all()), [folder.path("a.lua")]);
        assert!(watch.look(folder.all()).is_empty(), "said once");
    }

    #[test]
    fn a_file_that_was_only_touched_or_put_back_has_not_changed() {
        let folder = Folder::with(&[("a.lua", "one")]);
        let mut watch = folder.watch();

        folder.write("a.lua", "one");
        for _ in 0..3 {
            assert!(watch.look(folder.all()).is_empty());
        }
        folder.write("a.lua", "two");
        assert!(watch.look(folder.all()).is_empty());
        folder.write("a.lua", "one");
        for _ in 0..3 {
            assert!(watch.look(folder.all()).is_empty());
        }
    }

    #[test]
    fn files_that_come_go_or_are_replaced_with_their_old_times_are_noticed() {
        let folder = Folder::with(&[("a.lua", "one"), ("b.lua", "one")]);
        let mut watch = folder.watch();
        let mut settled = |folder: &Folder| {
            assert!(watch.look(folder.all()).is_empty());
            watch.look(folder.all())
        };

        folder.write("c.lua", "new");
        assert_eq!(settled(&folder), [folder.path("c.lua")]);

        fs::remove_file(folder.path("c.lua")).unwrap();
        assert_eq!(settled(&folder), [folder.path("c.lua")]);

        let modified = fs::metadata(folder.path("b.lua")).unwrap().modified();
        folder.write("next", "two");
        let next = fs::File::options().write(true).open(folder.path("next"));
        next.unwrap().set_modified(modified.unwrap()).unwrap();
        fs::rename(folder.path("next"), folder.path("b.lua")).unwrap();
        assert_eq!(settled(&folder), [folder.path("b.lua")]);
    }

    #[test]
    fn what_was_changed_while_it_was_loaded_is_loaded_again() {
        let folder = Folder::with(&[("a.lua", "one")]);
        // Known before: what is read is at least as new as what was taken down.
        let before = Before::reading(folder.all());
        folder.write("a.lua", "two");
        let mut watch = before.and([]);
        assert!(watch.look(folder.all()).is_empty());
        assert_eq!(watch.look(folder.all()), [folder.path("a.lua")]);

        // Not known before: which state was read is uncertain.
        let before = Before::reading(folder.all());
        folder.write("module.lua", "one");
        let mut watch = before.and([folder.path("module.lua")]);
        assert!(watch.look(folder.all()).is_empty());
        assert_eq!(watch.look(folder.all()), [folder.path("module.lua")]);
        assert!(watch.look(folder.all()).is_empty());

        // Nor is it there any more.
        let before = Before::reading(folder.all());
        folder.write("gone.lua", "one");
        let gone = folder.path("gone.lua");
        let mut watch = before.and([gone.clone()]);
        fs::remove_file(&gone).unwrap();
        assert!(watch.look(folder.all()).is_empty());
        assert_eq!(watch.look(folder.all()), [gone]);
        assert!(watch.look(folder.all()).is_empty());
    }

    #[test]
    fn a_pipe_in_a_files_place_is_a_change_and_not_waited_for() {
        let folder = Folder::with(&[("a.lua", "one")]);
        let mut watch = folder.watch();
        let path = folder.path("a.lua");
        fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();

        assert!(watch.look(folder.all()).is_empty());
        assert_eq!(watch.look(folder.all()), *std::slice::from_ref(&path));
        assert!(watch.look(folder.all()).is_empty());

        fs::remove_file(&path).unwrap();
        folder.write("a.lua", "one");
        assert!(watch.look(folder.all()).is_empty());
        assert_eq!(watch.look(folder.all()), [path]);
    }

    #[test]
    fn a_file_that_is_not_there_is_waited_for() {
        let folder = Folder::with(&[("a.lua", "one")]);
        let missing = folder.path("module.lua");
        let mut watch = Before::reading([missing.clone()]).and([]);
        for _ in 0..3 {
            assert!(watch.look([]).is_empty());
        }
        folder.write("module.lua", "one");
        assert!(watch.look([]).is_empty());
        assert_eq!(watch.look([]), [missing]);
    }
}
