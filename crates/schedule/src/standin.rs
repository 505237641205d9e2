//! What keeps schedules while the store fails: memory, until the store works again.
//!
//! Whoever asks does not notice. What another process did meanwhile is not undone, and what was
//! done here is written when the store works again. Two processes whose store fails do not see
//! each other: then each runs what falls due.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::job::Sink;
use crate::row::{PastRun, Row, later};
use crate::store::{HISTORY, MemoryStore, Store, StoreError, StoreErrorKind};

/// How long after a failure the store is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// How often in a row a store may be held by another process. Each time is a wait of seconds.
const BUSY: u32 = 5;
/// Runs that are numbered while the store fails. Their numbers lie apart from those that another
/// process gives meanwhile.
const NUMBERS: u64 = 1000;

/// A store that is replaced by memory while it fails.
pub(crate) struct StandIn {
    store: Arc<dyn Store>,
    sink: Arc<dyn Sink>,
    inner: Mutex<Inner>,
    /// While the store fails: when it is tried again. It changes only under `inner`, which may be
    /// held for long.
    again: Mutex<Option<Timestamp>>,
    /// What is added to the numbers of runs.
    apart: u64,
}

#[derive(Default)]
struct Inner {
    /// While the store works: the rows as it keeps them. Then: as they would be kept.
    memory: MemoryStore,
    /// While the store fails: what was changed, and what it was before, where that is known.
    changed: BTreeMap<String, Option<Row>>,
    busy: u32,
}

impl StandIn {
    /// Stands in for `store`; `sink` is told when it begins to, and when it ends.
    pub(crate) fn new(store: Arc<dyn Store>, sink: Arc<dyn Sink>) -> Self {
        Self {
            store,
            sink,
            inner: Mutex::default(),
            again: Mutex::default(),
            apart: NUMBERS * (1 + RandomState::new().hash_one(0) % 100_000),
        }
    }

    /// When the store is to be tried again, if it fails; a clock that was set back does not put
    /// that off.
    pub(crate) fn again(&self, now: Timestamp) -> Option<Timestamp> {
        self.fails().map(|at| at.min(later(now, AGAIN)))
    }

    /// Tries the store again, if it fails: writes what was changed meanwhile. Says how the rows
    /// stand that are written now.
    pub(crate) fn recover(&self, now: Timestamp) -> Vec<(String, Row)> {
        let mut inner = self.lock();
        let mut written = Vec::new();
        if self.fails().is_none() {
            return written;
        }
        for (name, base) in inner.changed.clone() {
            let Ok(row) = self.write_back(&inner.memory, &name, base.as_ref(), now) else {
                self.set_again(Some(later(now, AGAIN)));
                return written;
            };
            inner.changed.remove(&name);
            match row {
                Some(row) => {
                    inner.memory.put(&name, &row);
                    written.push((name, row));
                }
                None => inner.memory.forget(&name),
            }
        }
        self.set_again(None);
        inner.busy = 0;
        drop(inner);
        self.sink.trouble("the store of schedules works again");
        written
    }

    fn write_back(
        &self,
        memory: &MemoryStore,
        name: &str,
        base: Option<&Row>,
        now: Timestamp,
    ) -> Result<Option<Row>, StoreError> {
        let mine = memory.load(name, now)?;
        let mut since = memory.history(name, HISTORY)?;
        since.reverse();
        let mut written = None;
        self.store.change(name, now, &mut |row| {
            match (&mine, row.as_mut()) {
                (Some(mine), Some(row)) => row.merge(mine, base, &since),
                (Some(mine), None) => {
                    let ended = since.clone();
                    *row = Some(Row {
                        ended,
                        ..mine.clone()
                    });
                }
                (None, _) => *row = None,
            }
            written.clone_from(row);
        })?;
        Ok(written)
    }

    /// Whether memory is to do what the store did not.
    fn takes_over(&self, inner: &mut Inner, error: &StoreError, now: Timestamp) -> bool {
        if error.kind == StoreErrorKind::Busy {
            inner.busy += 1;
            if inner.busy < BUSY {
                return false;
            }
        }
        self.set_again(Some(later(now, AGAIN)));
        let message = &error.message;
        let told = format!("{message}; schedules go on from memory until it works again");
        self.sink.trouble(&told);
        true
    }

    fn fails(&self) -> Option<Timestamp> {
        *self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_again(&self, again: Option<Timestamp>) {
        *self.again.lock().unwrap_or_else(PoisonError::into_inner) = again;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn change(
        &mut self,
        name: &str,
        now: Timestamp,
        apart: u64,
        change: &mut dyn FnMut(&mut Option<Row>),
    ) -> Result<(), StoreError> {
        let is_first = !self.changed.contains_key(name);
        if is_first {
            let base = self.memory.load(name, now)?;
            self.changed.insert(name.to_owned(), base);
        }
        self.memory.change(name, now, &mut |row| {
            if is_first && let Some(row) = row {
                row.fence += apart;
            }
            let was_known = row.is_some();
            change(row);
            if !was_known && let Some(row) = row {
                row.fence += apart;
            }
        })
    }
}

impl Store for StandIn {
    fn load(&self, name: &str, now: Timestamp) -> Result<Option<Row>, StoreError> {
        let inner = self.lock();
        if inner.changed.contains_key(name) {
            return inner.memory.load(name, now);
        }
        if self.fails().is_some()
            && let known @ Some(_) = inner.memory.load(name, now)?
        {
            return Ok(known);
        }
        self.store.load(name, now)
    }

    fn all(&self, now: Timestamp) -> Result<Vec<(String, Row)>, StoreError> {
        let inner = self.lock();
        let mut rows: BTreeMap<String, Row> = self.store.all(now)?.into_iter().collect();
        for name in inner.changed.keys() {
            match inner.memory.load(name, now)? {
                Some(row) => drop(rows.insert(name.clone(), row)),
                None => drop(rows.remove(name)),
            }
        }
        Ok(rows.into_iter().collect())
    }

    fn change(
        &self,
        name: &str,
        now: Timestamp,
        change: &mut dyn FnMut(&mut Option<Row>),
    ) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if self.fails().is_some() {
            return inner.change(name, now, self.apart, change);
        }
        let mut written = None;
        let done = self.store.change(name, now, &mut |row| {
            change(row);
            written.clone_from(row);
        });
        match done {
            Ok(()) => {
                inner.busy = 0;
                match written {
                    Some(row) => inner.memory.put(name, &row),
                    None => inner.memory.forget(name),
                }
                Ok(())
            }
            Err(error) if self.takes_over(&mut inner, &error, now) => {
                inner.change(name, now, self.apart, change)
            }
            Err(error) => Err(error),
        }
    }

    fn history(&self, name: &str, limit: usize) -> Result<Vec<PastRun>, StoreError> {
        let inner = self.lock();
        let kept = self.store.history(name, limit);
        if self.fails().is_none() {
            return kept;
        }
        let mut runs = inner.memory.history(name, limit)?;
        let kept = kept.unwrap_or_default();
        let known = |run: &PastRun| runs.iter().any(|other| other.number == run.number);
        let older: Vec<PastRun> = kept.into_iter().filter(|run| !known(run)).collect();
        runs.extend(older);
        runs.truncate(limit);
        Ok(runs)
    }

    fn is_quick(&self) -> bool {
        self.store.is_quick()
    }
}
