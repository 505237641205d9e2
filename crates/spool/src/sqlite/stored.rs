//! Bodies on their way in and out: small ones in the row, large ones in a segment.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex};

use futures_util::future::{BoxFuture, FutureExt as _};
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use super::segment::{Placed, Segments, Writing, sum};
use super::writer::lock;
use crate::body::{Body, BodyPlace, BodyWriter, Staged, octets};
use crate::error::{SpoolError, SpoolErrorKind};

/// The largest body that is kept in the row; what one that is under way has in memory at most,
/// for there may be a thousand of them.
pub(crate) const INLINE: usize = 64 * 1024;

/// What is written, or read, at once.
const BUFFER: usize = 256 * 1024;

/// Takes a body as it comes.
pub(crate) struct SqliteBody {
    /// None in memory: all stays there.
    segments: Option<Arc<Segments>>,
    buffer: Vec<u8>,
    writing: Option<Writing>,
    len: u64,
    most: u64,
}

impl SqliteBody {
    pub(crate) fn new(segments: Option<Arc<Segments>>, most: u64) -> Self {
        Self {
            segments,
            buffer: Vec::new(),
            writing: None,
            len: 0,
            most,
        }
    }

    async fn flush(&mut self) -> Result<(), SpoolError> {
        let Some(segments) = self.segments.clone() else {
            return Ok(());
        };
        let writing = self.writing.take();
        let mut buffer = std::mem::take(&mut self.buffer);
        let (writing, buffer) = blocking(move || {
            let mut writing = match writing {
                Some(writing) => writing,
                None => segments.write()?,
            };
            writing.append(&buffer)?;
            buffer.clear();
            Ok((writing, buffer))
        })
        .await?;
        self.writing = Some(writing);
        self.buffer = buffer;
        Ok(())
    }
}

impl BodyWriter for SqliteBody {
    fn write<'a>(&'a mut self, mut rest: &'a [u8]) -> BoxFuture<'a, Result<(), SpoolError>> {
        async move {
            self.len = self.len.saturating_add(octets(rest));
            check_len(self.len, self.most)?;
            if self.segments.is_none() {
                self.buffer.extend_from_slice(rest);
                return Ok(());
            }
            while !rest.is_empty() {
                if self.buffer.len() >= INLINE {
                    self.flush().await?;
                }
                let room = INLINE.saturating_sub(self.buffer.len());
                let (now, later) = rest.split_at(rest.len().min(room));
                self.buffer.extend_from_slice(now);
                rest = later;
            }
            Ok(())
        }
        .boxed()
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<Body, SpoolError>> {
        async move {
            if self.writing.is_none() || self.segments.is_none() {
                return Ok(Body::from(self.buffer));
            }
            if !self.buffer.is_empty() {
                self.flush().await?;
            }
            let Some(writing) = self.writing.take() else {
                return Err(SpoolError::ending());
            };
            let placed = blocking(move || writing.finish()).await?;
            let staged = Staged::new(placed.len, Arc::new(placed));
            Ok(Body::Staged(staged))
        }
        .boxed()
    }
}

pub(crate) fn check_len(len: u64, most: u64) -> Result<(), SpoolError> {
    if len <= most {
        return Ok(());
    }
    let what = format!("the message is larger than {most} octets");
    Err(SpoolError::new(SpoolErrorKind::TooLarge, &what))
}

/// Puts a large body that is in memory into a segment.
pub(crate) async fn place(segments: Arc<Segments>, bytes: Arc<[u8]>) -> Result<Placed, SpoolError> {
    blocking(move || {
        let mut writing = segments.write()?;
        for chunk in bytes.chunks(BUFFER) {
            writing.append(chunk)?;
        }
        writing.finish()
    })
    .await
}

/// A body in a segment. Read from its beginning to its end, its last octets come only if all are
/// as they were written.
pub(crate) struct SegmentBody {
    inner: Arc<Inner>,
}

struct Inner {
    file: Arc<File>,
    place: u64,
    len: u64,
    sum: i64,
    reading: Mutex<Reading>,
}

/// How far it was read in order.
#[derive(Default)]
struct Reading {
    at: u64,
    hash: Sha256,
    buffer: Vec<u8>,
}

impl SegmentBody {
    /// An error, if the file is too short to have it.
    pub(crate) fn new(file: Arc<File>, place: u64, len: u64, sum: i64) -> Result<Self, SpoolError> {
        let found = file.metadata().map(|found| found.len());
        if found.is_ok_and(|found| found < place.saturating_add(len)) {
            return Err(SpoolError::new(SpoolErrorKind::Corrupt, DAMAGED));
        }
        let inner = Inner {
            file,
            place,
            len,
            sum,
            reading: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Reads all of it for its check sum.
    pub(crate) fn copy(&self, to: &mut Writing) -> Result<(), SpoolError> {
        let mut at = 0;
        loop {
            let read = self.inner.read(at, BUFFER, |octets| to.append(octets));
            let (count, appended) =
                read.map_err(|error| SpoolError::new(SpoolErrorKind::Corrupt, &error.to_string()))?;
            if count == 0 {
                return Ok(());
            }
            appended?;
            at += u64::try_from(count).unwrap_or(u64::MAX);
        }
    }
}

pub(crate) const DAMAGED: &str = "the message's octets on the disk are damaged";

impl Inner {
    fn read<T>(
        &self,
        offset: u64,
        most: usize,
        take: impl FnOnce(&[u8]) -> T,
    ) -> io::Result<(usize, T)> {
        let mut reading = lock(&self.reading);
        let reading = &mut *reading;
        let left = self.len.saturating_sub(offset);
        let count = most.min(BUFFER);
        let count = count.min(usize::try_from(left).unwrap_or(usize::MAX));
        reading.buffer.resize(count, 0);
        if count == 0 {
            return Ok((0, take(&[])));
        }
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, DAMAGED);
        self.file
            .read_exact_at(&mut reading.buffer, self.place + offset)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => damaged(),
                _ => error,
            })?;
        if offset == 0 {
            reading.at = 0;
            reading.hash = Sha256::new();
        }
        if offset == reading.at {
            reading.hash.update(&reading.buffer);
            reading.at += u64::try_from(count).unwrap_or(u64::MAX);
            if reading.at == self.len && sum(reading.hash.clone()) != self.sum {
                return Err(damaged());
            }
        }
        Ok((count, take(&reading.buffer)))
    }
}

impl BodyPlace for SegmentBody {
    fn len(&self) -> u64 {
        self.inner.len
    }

    fn read_at<'a>(&'a self, offset: u64, into: &'a mut [u8]) -> BoxFuture<'a, io::Result<usize>> {
        let inner = Arc::clone(&self.inner);
        let most = into.len();
        async move {
            let read = spawn_blocking(move || {
                let (_, octets) = inner.read(offset, most, <[u8]>::to_vec)?;
                Ok(octets)
            });
            let octets: Vec<u8> = read
                .await
                .unwrap_or_else(|_| Err(io::Error::other("the process is ending")))?;
            into[..octets.len()].copy_from_slice(&octets);
            Ok(octets.len())
        }
        .boxed()
    }
}

/// Does something that may take the disk's time.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, SpoolError> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(SpoolError::ending()))
}
