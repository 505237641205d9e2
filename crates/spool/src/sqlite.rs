//! The queue in a directory, by SQLite.

use std::path::Path;
use std::time::Duration;

use crate::error::SpoolError;

/// How a queue is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// How long a message is kept after its last recipient was delivered or failed.
    pub retention: Duration,
    /// How long an idempotency key is known.
    pub idempotency_window: Duration,
    /// The largest message taken.
    pub max_message: u64,
}

impl Default for SpoolSettings {
    fn default() -> Self {
        Self {
            retention: Duration::from_hours(24 * 7),
            idempotency_window: Duration::from_hours(24),
            // Exchange Online's ceiling.
            max_message: 150 * 1024 * 1024,
        }
    }
}

/// A queue in a directory that processes share.
#[derive(Clone, Debug)]
pub struct SqliteSpool;

impl SqliteSpool {
    /// Opens the queue in `dir`, which is made if it is not there.
    pub fn open(_dir: &Path, _settings: SpoolSettings) -> Result<Self, SpoolError> {
        Err(SpoolError::ending())
    }

    /// One that is forgotten with its last clone.
    pub fn in_memory(_settings: SpoolSettings) -> Result<Self, SpoolError> {
        Err(SpoolError::ending())
    }
}
