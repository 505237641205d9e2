//! One writer: it takes every request that waits, writes them in one transaction with one flush,
//! and answers all.
//!
//! Each request has a savepoint of its own, so that one which fails does so alone. What ends with
//! the machine anyhow is not flushed on its own account: other processes see it at once, and a
//! later flush takes it along. The writer is a blocking task that lives as long as there is
//! something to write.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{CachedStatement, Connection};
use tokio::sync::{Semaphore, oneshot, watch};

use super::fail;
use super::freed::Freed;
use super::segment::Segment;
use crate::error::{SpoolError, SpoolErrorKind};

/// Requests that one transaction takes.
const GROUP: usize = 512;

/// Requests that may wait; more wait to wait.
const WAITING: usize = 1024;

/// How long requests wait for company, at most: those that may be late, and those whose like were
/// many a moment ago.
const COMPANY: Duration = Duration::from_millis(2);

/// Requests that may be late are kept no longer, when there are so many.
const LAZY_ENOUGH: usize = 64;

/// What is done in a transaction.
pub(crate) trait Work<T>: FnMut(&Transaction<'_>) -> Result<T, SpoolError> + Send {}

impl<T, F: FnMut(&Transaction<'_>) -> Result<T, SpoolError> + Send> Work<T> for F {}

/// A transaction, as a request sees it.
pub(crate) struct Transaction<'a> {
    connection: &'a Connection,
}

impl Transaction<'_> {
    /// A statement that is prepared once.
    pub(crate) fn sql(&self, sql: &str) -> Result<CachedStatement<'_>, SpoolError> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// Executes a statement; how many rows it changed.
    pub(crate) fn execute(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
    ) -> Result<usize, SpoolError> {
        Ok(self.sql(sql)?.execute(values)?)
    }

    /// The number of the row inserted last.
    pub(crate) fn inserted(&self) -> i64 {
        self.connection.last_insert_rowid()
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.connection
    }
}

/// How a request is to be treated.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each says something of its own, and most requests nothing"
)]
#[derive(Clone, Default)]
pub(crate) struct Manner {
    /// It may wait a little for company.
    pub(crate) lazy: bool,
    /// It needs more of the disk: refused first, when that runs full.
    pub(crate) grows: bool,
    /// Flushed before the transaction is.
    pub(crate) segment: Option<Arc<Segment>>,
    /// Those who wait for changes are told.
    pub(crate) tells: bool,
    /// It says nothing that matters once the machine has gone down: it needs no flush.
    pub(crate) fleeting: bool,
}

/// A request on its way.
trait Job: Send {
    fn manner(&self) -> &Manner;
    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), SpoolError>;
    fn answer(self: Box<Self>, outcome: Result<(), SpoolError>);
}

struct Request<T, W> {
    manner: Manner,
    work: W,
    done: Option<T>,
    answer: oneshot::Sender<Result<T, SpoolError>>,
}

impl<T: Send, W: Work<T>> Job for Request<T, W> {
    fn manner(&self) -> &Manner {
        &self.manner
    }

    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), SpoolError> {
        self.done = Some((self.work)(transaction)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), SpoolError>) {
        let answer = match (outcome, self.done) {
            (Ok(()), Some(done)) => Ok(done),
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(SpoolError::ending()),
        };
        // Nobody waits for it any more: it is done nevertheless.
        let _ = self.answer.send(answer);
    }
}

/// The free octets that the disk has, where that can be known.
pub(crate) type Room = Box<dyn Fn() -> Option<u64> + Send + Sync>;

pub(crate) struct Writer {
    connection: Mutex<Connection>,
    /// Whether the connection flushes what it commits.
    flushes: AtomicBool,
    queue: Mutex<Queue>,
    /// Something came while the writer waits for company.
    came: Condvar,
    permits: Semaphore,
    /// What was given back without anybody waiting for it.
    freed: Mutex<Vec<Freed>>,
    room: Room,
    reserve: u64,
    changes: watch::Sender<u64>,
    pub(crate) commits: AtomicU64,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn Job>>,
    /// Of them, those that may not wait.
    urgent: usize,
    leading: bool,
    waits: bool,
    company: Company,
}

impl Queue {
    /// Whether those who wait need not wait for more.
    fn is_enough(&self) -> bool {
        match self.urgent {
            0 => self.jobs.len() >= LAZY_ENOUGH,
            urgent => urgent >= self.company.enough(),
        }
    }
}

/// How many requests come side by side.
///
/// Those who were just answered come again at once. Better one flush for most of them than one
/// for the first and one for the next; the others find their company while it is under way. One
/// that comes alone never waits.
#[derive(Default)]
struct Company {
    usual: usize,
}

impl Company {
    /// With so many it is not worth waiting for more.
    fn enough(&self) -> usize {
        self.usual * 2 / 3
    }

    /// So many were written, and so many others came meanwhile.
    fn met(&mut self, written: usize, waiting: usize) {
        if waiting > 0 && waiting >= written / 4 {
            self.usual += 1;
        }
        self.usual = self.usual.max(written + waiting).min(GROUP);
    }

    /// Only so many came: fewer do now, or they were late this once.
    fn missed(&mut self, came: usize) {
        self.usual = usize::midpoint(self.usual, came);
    }
}

impl Writer {
    pub(crate) fn new(connection: Connection, room: Room, reserve: u64) -> Arc<Self> {
        Arc::new(Self {
            connection: Mutex::new(connection),
            flushes: AtomicBool::new(true),
            queue: Mutex::default(),
            came: Condvar::new(),
            permits: Semaphore::new(WAITING),
            freed: Mutex::default(),
            room,
            reserve,
            changes: watch::Sender::new(0),
            commits: AtomicU64::new(0),
        })
    }

    /// Has `work` done, durably.
    pub(crate) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        manner: Manner,
        work: impl Work<T> + 'static,
    ) -> Result<T, SpoolError> {
        let _permit = self.permits.acquire().await;
        let (answer, answered) = oneshot::channel();
        let request = Request {
            manner,
            work,
            done: None,
            answer,
        };
        self.push(Box::new(request));
        answered.await.map_err(|_| SpoolError::ending())?
    }

    /// Has something given back, some time soon.
    pub(crate) fn free(self: &Arc<Self>, freed: Freed) {
        lock(&self.freed).push(freed);
        let (answer, _) = oneshot::channel();
        self.push(Box::new(Request {
            manner: Manner {
                lazy: true,
                tells: true,
                fleeting: true,
                ..Manner::default()
            },
            work: |_: &Transaction<'_>| Ok(()),
            done: None,
            answer,
        }));
    }

    /// Uses the connection outside of a transaction.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, SpoolError>,
    ) -> Result<T, SpoolError> {
        work(&lock(&self.connection))
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn tell(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    fn push(self: &Arc<Self>, job: Box<dyn Job>) {
        let mut queue = lock(&self.queue);
        if !job.manner().lazy {
            queue.urgent += 1;
        }
        queue.jobs.push_back(job);
        // Not for each that comes: who is woken in vain takes time from those who bring more.
        if queue.waits && queue.is_enough() {
            self.came.notify_one();
        }
        if queue.leading {
            return;
        }
        queue.leading = true;
        drop(queue);
        let lead = Lead {
            writer: Arc::clone(self),
            ended: false,
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn_blocking(move || lead.run());
            }
            Err(_) => lead.run(),
        }
    }

    /// The next group; none, when there is nothing to write and the writer may end.
    fn next(&self) -> Vec<Box<dyn Job>> {
        let mut queue = lock(&self.queue);
        let began = Instant::now();
        loop {
            if queue.jobs.is_empty() {
                queue.leading = false;
                return Vec::new();
            }
            if queue.is_enough() {
                break;
            }
            let left = COMPANY.saturating_sub(began.elapsed());
            if left.is_zero() {
                let urgent = queue.urgent;
                if urgent > 0 {
                    queue.company.missed(urgent);
                }
                break;
            }
            queue.waits = true;
            let (held, _) = self
                .came
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner);
            queue = held;
            queue.waits = false;
        }
        let taken = queue.jobs.len().min(GROUP);
        let jobs: Vec<_> = queue.jobs.drain(..taken).collect();
        queue.urgent -= urgent(&jobs);
        jobs
    }

    /// Writes `jobs` together, and answers them.
    fn group(&self, mut jobs: Vec<Box<dyn Job>>) {
        let outcomes = match self.attempt(&mut jobs) {
            Ok(outcomes) => outcomes,
            // The whole is too large for the disk, and a part may not be; or one of them met a
            // damaged page, after which SQLite writes nothing in the same transaction.
            Err(error) if is_of_one(error.kind) && jobs.len() > 1 => jobs
                .iter_mut()
                .map(|job| {
                    let outcomes = self.attempt(std::slice::from_mut(job))?;
                    outcomes.into_iter().next().unwrap_or(Ok(()))
                })
                .collect(),
            Err(error) => jobs.iter().map(|_| Err(error.clone())).collect(),
        };
        fail::step();
        {
            let mut queue = lock(&self.queue);
            let waiting = queue.urgent;
            queue.company.met(urgent(&jobs), waiting);
        }
        // Before the answers: whoever has one may rely on it that others were told.
        let mut done = jobs.iter().zip(&outcomes);
        if done.any(|(job, outcome)| job.manner().tells && outcome.is_ok()) {
            self.tell();
        }
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            job.answer(outcome);
        }
    }

    /// What became of each, if the transaction was written.
    fn attempt(
        &self,
        jobs: &mut [Box<dyn Job>],
    ) -> Result<Vec<Result<(), SpoolError>>, SpoolError> {
        let connection = lock(&self.connection);
        if !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK")?;
        }
        let mut outcomes: Vec<Result<(), SpoolError>> = jobs
            .iter()
            .map(|job| match &job.manner().segment {
                Some(segment) => segment.sync(),
                None => Ok(()),
            })
            .collect();
        let low = jobs.iter().any(|job| job.manner().grows)
            && (self.room)().is_some_and(|room| room < self.reserve);
        fail::step();
        let flushes = !jobs.iter().all(|job| job.manner().fleeting);
        if self.flushes.load(Ordering::Relaxed) != flushes {
            // Where the log is not flushed, each transaction is whole in it nevertheless.
            let level = if flushes { "full" } else { "normal" };
            connection.pragma_update(None, "synchronous", level)?;
            self.flushes.store(flushes, Ordering::Relaxed);
        }
        let freed = std::mem::take(&mut *lock(&self.freed));
        let written = Self::transact(&connection, jobs, &mut outcomes, &freed, low);
        if let Err(error) = written {
            lock(&self.freed).extend(freed);
            if !connection.is_autocommit() {
                // What cannot be rolled back is not committed either.
                let _ = connection.execute_batch("ROLLBACK");
            }
            return Err(error);
        }
        if flushes {
            self.commits.fetch_add(1, Ordering::Relaxed);
        }
        Ok(outcomes)
    }

    fn transact(
        connection: &Connection,
        jobs: &mut [Box<dyn Job>],
        outcomes: &mut [Result<(), SpoolError>],
        freed: &[Freed],
        low: bool,
    ) -> Result<(), SpoolError> {
        let transaction = Transaction { connection };
        transaction.execute("BEGIN IMMEDIATE", [])?;
        for freed in freed {
            freed.write(&transaction)?;
        }
        for (job, outcome) in jobs.iter_mut().zip(outcomes) {
            if outcome.is_err() {
                continue;
            }
            if low && job.manner().grows {
                let what = "the disk that the queue is on is full but for a reserve";
                *outcome = Err(SpoolError::new(SpoolErrorKind::Full, what));
                continue;
            }
            transaction.execute("SAVEPOINT request", [])?;
            if let Err(error) = job.run(&transaction) {
                if connection.is_autocommit() {
                    return Err(error);
                }
                if transaction.execute("ROLLBACK TO request", []).is_err() {
                    return Err(error);
                }
                *outcome = Err(error);
            }
            transaction.execute("RELEASE request", [])?;
            fail::step();
        }
        transaction.execute("COMMIT", [])?;
        Ok(())
    }
}

/// How many of them may not wait.
fn urgent(jobs: &[Box<dyn Job>]) -> usize {
    jobs.iter().filter(|job| !job.manner().lazy).count()
}

/// Whether the trouble may be one request's only.
fn is_of_one(kind: SpoolErrorKind) -> bool {
    matches!(kind, SpoolErrorKind::Full | SpoolErrorKind::Corrupt)
}

/// The writer at work; however it ends, the next request starts it again.
struct Lead {
    writer: Arc<Writer>,
    ended: bool,
}

impl Lead {
    fn run(mut self) {
        loop {
            let jobs = self.writer.next();
            if jobs.is_empty() {
                self.ended = true;
                return;
            }
            self.writer.group(jobs);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut queue = lock(&self.writer.queue);
        // It never ran, or panicked: those who wait hear of it.
        queue.leading = false;
        queue.urgent = 0;
        let jobs = std::mem::take(&mut queue.jobs);
        drop(queue);
        drop(jobs);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_comes_alone_never_waits() {
        let mut company = Company::default();
        for _ in 0..100 {
            assert!(company.enough() <= 1);
            company.met(1, 0);
        }
    }

    #[test]
    fn most_of_those_who_come_together_are_written_together() {
        let mut company = Company::default();
        company.met(1, 49);
        assert_eq!(company.enough(), 33);
        // They are written, and few others have come so soon.
        for _ in 0..100 {
            company.met(33, 2);
        }
        assert_eq!(company.enough(), 33);
    }

    #[test]
    fn those_who_stay_away_are_soon_not_waited_for() {
        let mut company = Company::default();
        company.met(10, 40);
        let mut waits = 0;
        while company.enough() > 1 {
            company.missed(1);
            waits += 1;
        }
        assert!(waits <= 5, "{waits}");
    }
}
