//! Files that large bodies are appended to.
//!
//! Who appends to a file has it locked, and hands it on to nobody while a body of it has not been
//! accepted or dropped; so a file that can be locked and that no message names may go. A file's
//! name is never used twice.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use sha2::{Digest as _, Sha256};

use super::fail;
use super::writer::lock;
use crate::error::{SpoolError, SpoolErrorKind};

/// A file that has grown beyond takes no further body.
const FULL: u64 = 64 * 1024 * 1024;

/// Files that are kept open for the next body.
const IDLE: usize = 8;

/// Bodies beyond are flushed before they are accepted, so that others need not wait for it.
const FLUSHED_EARLY: u64 = 1024 * 1024;

/// The suffix of their names.
const SUFFIX: &str = ".seg";

/// The directory of such files.
pub(crate) struct Segments {
    dir: PathBuf,
    idle: Mutex<Vec<Arc<Segment>>>,
    readers: Mutex<HashMap<String, Weak<File>>>,
    pub(crate) syncs: AtomicU64,
}

/// A file that this process appends to.
pub(crate) struct Segment {
    name: String,
    path: PathBuf,
    file: File,
    end: AtomicU64,
    /// Up to where it is on the disk.
    synced: AtomicU64,
    /// Its name is on the disk, too.
    named: AtomicBool,
    segments: Weak<Segments>,
}

impl Segments {
    pub(crate) fn open(dir: PathBuf) -> Result<Arc<Self>, SpoolError> {
        make_dir(&dir)?;
        Ok(Arc::new(Self {
            dir,
            idle: Mutex::default(),
            readers: Mutex::default(),
            syncs: AtomicU64::new(0),
        }))
    }

    /// Begins a body at the end of a file that nobody else appends to.
    pub(crate) fn write(self: &Arc<Self>) -> Result<Writing, SpoolError> {
        let idle = lock(&self.idle).pop();
        let segment = match idle {
            Some(segment) => segment,
            None => self.create()?,
        };
        let start = segment.end.load(Ordering::SeqCst);
        Ok(Writing {
            segments: Arc::clone(self),
            segment: Some(segment),
            start,
            at: start,
            hash: Sha256::new(),
        })
    }

    fn create(self: &Arc<Self>) -> Result<Arc<Segment>, SpoolError> {
        let (name, path, file) = locked_file(&self.dir, SUFFIX)?;
        Ok(Arc::new(Segment {
            name,
            path,
            file,
            end: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            named: AtomicBool::new(false),
            segments: Arc::downgrade(self),
        }))
    }

    fn give_back(&self, segment: Arc<Segment>) {
        let mut idle = lock(&self.idle);
        if segment.end.load(Ordering::SeqCst) < FULL && idle.len() < IDLE {
            idle.push(segment);
        }
    }

    /// A file to read from.
    pub(crate) fn reader(&self, name: &str) -> Result<Arc<File>, SpoolError> {
        let mut readers = lock(&self.readers);
        if let Some(file) = readers.get(name).and_then(Weak::upgrade) {
            return Ok(file);
        }
        let path = self.dir.join(name);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                SpoolError::at(SpoolErrorKind::Corrupt, &path, "the file is gone")
            }
            _ => SpoolError::io(&path, &error),
        })?;
        let file = Arc::new(file);
        readers.retain(|_, file| file.strong_count() > 0);
        readers.insert(name.to_owned(), Arc::downgrade(&file));
        Ok(file)
    }

    /// All files, each with its octets.
    pub(crate) fn files(&self) -> Result<Vec<(String, u64)>, SpoolError> {
        let failed = |error: io::Error| SpoolError::io(&self.dir, &error);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            // One that is removed meanwhile needs no tidying.
            if let (true, Ok(found)) = (name.ends_with(SUFFIX), entry.metadata()) {
                files.push((name, found.len()));
            }
        }
        files.sort();
        Ok(files)
    }

    /// Locks a file that nobody appends to; none, if somebody does or it is gone.
    pub(crate) fn unused(&self, name: &str) -> Result<Option<Unused>, SpoolError> {
        let path = self.dir.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SpoolError::io(&path, &error)),
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Unused { path, _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(SpoolError::io(&path, &error)),
        }
    }

    /// Lets go of the files kept for the next body, so that they can be tidied.
    pub(crate) fn let_go(&self) {
        lock(&self.idle).clear();
    }
}

/// A file that nobody appends to, nor will.
pub(crate) struct Unused {
    path: PathBuf,
    _file: File,
}

impl Unused {
    pub(crate) fn remove(self) -> Result<(), SpoolError> {
        std::fs::remove_file(&self.path).map_err(|error| SpoolError::io(&self.path, &error))
    }
}

impl Segment {
    /// Puts what was appended on the disk.
    pub(crate) fn sync(&self) -> Result<(), SpoolError> {
        let end = self.end.load(Ordering::SeqCst);
        let failed = |error: io::Error| SpoolError::io(&self.path, &error);
        if self.synced.load(Ordering::SeqCst) < end {
            self.file.sync_data().map_err(failed)?;
            self.synced.fetch_max(end, Ordering::SeqCst);
            self.count();
        }
        if !self.named.load(Ordering::SeqCst) {
            if let Some(dir) = self.path.parent() {
                sync_dir(dir)?;
            }
            self.named.store(true, Ordering::SeqCst);
            self.count();
        }
        fail::step();
        Ok(())
    }

    fn count(&self) {
        if let Some(segments) = self.segments.upgrade() {
            segments.syncs.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Cuts off what was appended from `start` on.
    fn cut(&self, start: u64) -> io::Result<()> {
        self.file.set_len(start)?;
        self.end.store(start, Ordering::SeqCst);
        self.synced.fetch_min(start, Ordering::SeqCst);
        Ok(())
    }
}

/// A body being appended. Dropped, it leaves nothing.
pub(crate) struct Writing {
    segments: Arc<Segments>,
    segment: Option<Arc<Segment>>,
    start: u64,
    at: u64,
    hash: Sha256,
}

impl Writing {
    pub(crate) fn append(&mut self, octets: &[u8]) -> Result<(), SpoolError> {
        let Some(segment) = &self.segment else {
            return Err(SpoolError::ending());
        };
        segment
            .file
            .write_all_at(octets, self.at)
            .map_err(|error| SpoolError::io(&segment.path, &error))?;
        fail::step();
        self.at += crate::body::octets(octets);
        self.hash.update(octets);
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Placed, SpoolError> {
        let Some(segment) = self.segment.take() else {
            return Err(SpoolError::ending());
        };
        segment.end.store(self.at, Ordering::SeqCst);
        let len = self.at - self.start;
        let placed = Placed {
            place: self.start,
            len,
            sum: sum(std::mem::take(&mut self.hash)),
            segments: Arc::clone(&self.segments),
            segment: Arc::clone(&segment),
            needed: AtomicUsize::new(0),
        };
        if len > FLUSHED_EARLY {
            segment.sync()?;
        }
        self.segments.give_back(segment);
        Ok(placed)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(segment) = self.segment.take() {
            // One that cannot be cut is left to itself.
            if segment.cut(self.start).is_ok() {
                self.segments.give_back(segment);
            }
        }
    }
}

/// A body that was appended, and that no message may need yet.
pub(crate) struct Placed {
    segment: Arc<Segment>,
    segments: Arc<Segments>,
    pub(crate) place: u64,
    pub(crate) len: u64,
    pub(crate) sum: i64,
    /// By how many messages, or such as may be.
    needed: AtomicUsize,
}

impl Placed {
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(crate) fn name(&self) -> &str {
        &self.segment.name
    }

    /// A message may name it from now on.
    pub(crate) fn need(&self) {
        self.needed.fetch_add(1, Ordering::SeqCst);
    }

    /// That message does not name it after all.
    pub(crate) fn release(&self) {
        self.needed.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if self.needed.load(Ordering::SeqCst) > 0 {
            return;
        }
        // The last in its file, while nobody appends: the octets can go at once. Otherwise the
        // whole file goes when nobody needs it.
        let idle = lock(&self.segments.idle);
        let ours = |segment: &Arc<Segment>| Arc::ptr_eq(segment, &self.segment);
        let end = self.segment.end.load(Ordering::SeqCst);
        if idle.iter().any(ours) && end == self.place + self.len {
            let _ = self.segment.cut(self.place);
        }
    }
}

/// A body's check sum: the first 64 bits of its SHA-256.
pub(crate) fn sum(hash: Sha256) -> i64 {
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(first)
}

/// A directory of its owner's only.
pub(crate) fn make_dir(dir: &Path) -> Result<(), SpoolError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| SpoolError::io(dir, &error))
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), SpoolError> {
    let synced = File::open(dir).and_then(|open| open.sync_all());
    synced.map_err(|error| SpoolError::io(dir, &error))
}

/// Makes a file of a new name, and locks it.
pub(crate) fn locked_file(dir: &Path, suffix: &str) -> Result<(String, PathBuf, File), SpoolError> {
    loop {
        let chance = RandomState::new().hash_one(std::process::id());
        let name = format!("{chance:016x}{suffix}");
        let path = dir.join(&name);
        let failed = |error: io::Error| SpoolError::io(&path, &error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            opened => opened.map_err(failed)?,
        };
        fail::step();
        file.lock().map_err(failed)?;
        fail::step();
        // Whoever tidies may have found it without its lock, and removed it.
        if path.try_exists().map_err(failed)? {
            return Ok((name, path, file));
        }
    }
}
