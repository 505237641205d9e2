//! The octets of a message: on their way into the queue, and out of it.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _, ready};

use crate::error::SpoolError;

/// Header and body of a message that is to be queued.
#[derive(Clone)]
pub enum Body {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// Written by a [`BodyWriter`] of the store that is to accept it.
    Staged(Staged),
}

/// What a [`BodyWriter`] wrote. Accepted by no message, it is gone when it is dropped.
#[derive(Clone)]
pub struct Staged {
    len: u64,
    place: Arc<dyn Any + Send + Sync>,
}

impl Staged {
    /// So many octets, at a place that only the store understands.
    pub fn new(len: u64, place: Arc<dyn Any + Send + Sync>) -> Self {
        Self { len, place }
    }

    /// What the store keeps of it.
    pub fn shared_place(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(&self.place)
    }
}

impl Body {
    /// How many octets.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => octets(bytes),
            Self::Staged(staged) => staged.len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<&[u8]> for Body {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.len())
    }
}

/// Takes a message's octets as they come, in little memory. Dropped, it leaves nothing.
pub trait BodyWriter: Send {
    /// Adds `octets`. After an error it is of no further use.
    fn write<'a>(&'a mut self, octets: &'a [u8]) -> BoxFuture<'a, Result<(), SpoolError>>;

    /// All have come.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<Body, SpoolError>>;
}

/// Where a queued message's octets are.
pub trait BodyPlace: Send + Sync {
    /// How many there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads some from `offset` on; none at the end.
    fn read_at<'a>(&'a self, offset: u64, into: &'a mut [u8]) -> BoxFuture<'a, io::Result<usize>>;
}

/// A queued message's octets, to be read as often as needed without having all in memory.
#[derive(Clone)]
pub struct StoredBody(Kept);

#[derive(Clone)]
enum Kept {
    Inline(Arc<[u8]>),
    Elsewhere(Arc<dyn BodyPlace>),
}

impl StoredBody {
    /// One that is in memory.
    pub fn inline(bytes: Arc<[u8]>) -> Self {
        Self(Kept::Inline(bytes))
    }

    /// One that is elsewhere.
    pub fn elsewhere(place: Arc<dyn BodyPlace>) -> Self {
        Self(Kept::Elsewhere(place))
    }

    /// How many octets.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Kept::Inline(bytes) => octets(bytes),
            Kept::Elsewhere(place) => place.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, where they are in memory anyhow.
    pub fn bytes(&self) -> Option<&Arc<[u8]>> {
        match &self.0 {
            Kept::Inline(bytes) => Some(bytes),
            Kept::Elsewhere(_) => None,
        }
    }

    /// Reads some from `offset` on; none at the end. Octets that changed on the disk are an
    /// error, at the latest where the last of them are read.
    pub fn read_at<'a>(
        &'a self,
        offset: u64,
        into: &'a mut [u8],
    ) -> BoxFuture<'a, io::Result<usize>> {
        match &self.0 {
            Kept::Inline(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = bytes.get(start..).unwrap_or_default();
                let count = rest.len().min(into.len());
                into[..count].copy_from_slice(&rest[..count]);
                ready(Ok(count)).boxed()
            }
            Kept::Elsewhere(place) => place.read_at(offset, into),
        }
    }
}

impl fmt::Debug for StoredBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.len())
    }
}

/// As a file counts.
pub(crate) fn octets(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
