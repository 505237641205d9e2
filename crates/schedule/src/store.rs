//! Where schedules with a name are kept.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::row::{PastRun, Row};
use crate::standing::Standing;

/// Runs that are remembered of each schedule.
pub const HISTORY: usize = 200;

/// Where schedules are kept: a container that changes one row at a time, all or nothing.
///
/// The rules are elsewhere, so that every store keeps the same ones.
pub trait Store: Send + Sync {
    /// What is kept of the schedule `name`.
    fn load(&self, name: &str, now: Timestamp) -> Result<Option<Row>, StoreError>;

    /// What is kept of all, by name.
    fn all(&self, now: Timestamp) -> Result<Vec<(String, Row)>, StoreError>;

    /// Changes what is kept of `name`, while nobody else does. `change` may be called again if
    /// the first try could not be written.
    fn change(
        &self,
        name: &str,
        now: Timestamp,
        change: &mut dyn FnMut(&mut Option<Row>),
    ) -> Result<(), StoreError>;

    /// The latest runs of `name`, the latest first; never more than [`HISTORY`].
    fn history(&self, name: &str, limit: usize) -> Result<Vec<PastRun>, StoreError>;

    /// Whether a change only touches memory.
    fn is_quick(&self) -> bool {
        false
    }
}

/// What can be done with a store when no scheduler is at work.
impl dyn Store + '_ {
    /// All schedules it knows, as they stand.
    pub fn standings(&self, now: Timestamp) -> Result<Vec<Standing>, StoreError> {
        let rows = self.all(now)?;
        Ok(rows
            .into_iter()
            .map(|(name, row)| Standing::kept(name, &row, now))
            .collect())
    }

    /// Pauses the schedule `name`, or lets it go on; false if there is none.
    pub fn set_paused(&self, name: &str, paused: bool, now: Timestamp) -> Result<bool, StoreError> {
        if self.load(name, now)?.is_none() {
            return Ok(false);
        }
        self.change(name, now, &mut |row| {
            if let Some(row) = row {
                if paused {
                    row.pause();
                } else {
                    row.resume(now);
                }
            }
        })?;
        Ok(true)
    }
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// What kind of trouble it is.
    pub kind: StoreErrorKind,
    /// The file, and what the system says.
    pub message: String,
}

/// The kinds of trouble with a store that call for different actions.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// Another process held it for too long: try again.
    Busy,
    /// A newer Postrider wrote it.
    Newer,
    /// The file is not what it should be.
    Corrupt,
    /// It cannot be written: no permission, a read-only file system.
    ReadOnly,
    /// The disk is full.
    Full,
    /// Something else the system says.
    Io,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {}

/// A store that forgets everything when the process ends.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<String, Kept>>);

#[derive(Debug)]
struct Kept {
    row: Row,
    history: VecDeque<PastRun>,
}

impl MemoryStore {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets `name`.
    pub(crate) fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    /// Keeps `row` as it is, with no history.
    pub(crate) fn put(&self, name: &str, row: &Row) {
        let mut row = row.clone();
        row.ended.clear();
        row.ahead.clear();
        let history = VecDeque::new();
        self.lock().insert(name.to_owned(), Kept { row, history });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn seen_at(&self, now: Timestamp) -> Row {
        let mut row = self.row.clone();
        let slots = self.history.iter().map(|past| past.scheduled_at);
        row.ahead = slots.filter(|slot| *slot > now).collect();
        row
    }
}

impl Store for MemoryStore {
    fn load(&self, name: &str, now: Timestamp) -> Result<Option<Row>, StoreError> {
        Ok(self.lock().get(name).map(|kept| kept.seen_at(now)))
    }

    fn all(&self, now: Timestamp) -> Result<Vec<(String, Row)>, StoreError> {
        let rows = self.lock();
        let rows = rows.iter();
        Ok(rows
            .map(|(name, kept)| (name.clone(), kept.seen_at(now)))
            .collect())
    }

    fn change(
        &self,
        name: &str,
        now: Timestamp,
        change: &mut dyn FnMut(&mut Option<Row>),
    ) -> Result<(), StoreError> {
        let mut rows = self.lock();
        let mut row = rows.get(name).map(|kept| kept.seen_at(now));
        change(&mut row);
        let Some(mut row) = row else {
            rows.remove(name);
            return Ok(());
        };
        let ended = std::mem::take(&mut row.ended);
        row.ahead.clear();
        let kept = rows.entry(name.to_owned()).or_insert_with(|| Kept {
            row: row.clone(),
            history: VecDeque::new(),
        });
        kept.row = row;
        for past in ended {
            kept.history.retain(|known| known.number != past.number);
            kept.history.push_front(past);
            kept.history.truncate(HISTORY);
        }
        Ok(())
    }

    fn history(&self, name: &str, limit: usize) -> Result<Vec<PastRun>, StoreError> {
        let rows = self.lock();
        let history = rows.get(name).map(|kept| kept.history.iter().take(limit));
        Ok(history.into_iter().flatten().cloned().collect())
    }

    fn is_quick(&self) -> bool {
        true
    }
}
