//! Schedules in an SQLite file that several processes share.
//!
//! Every change is one transaction that takes the write lock before it reads, and it is on the
//! disk when it returns. Times are whole microseconds. What the rows mean is told at
//! [`crate::row`].

use std::cmp::Ordering;
use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior,
    params,
};

use crate::job::{JobError, Reason};
use crate::row::{OpenRun, PastRun, RetryDue, Row};
use crate::store::{HISTORY, Store, StoreError, StoreErrorKind};

/// How long another process may hold the file. A change takes milliseconds, two flushes of the
/// disk at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// What this Postrider reads and writes.
const VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE schedule (
        name TEXT NOT NULL PRIMARY KEY,
        script TEXT NOT NULL,
        plan TEXT NOT NULL,
        zone TEXT,
        anchor INTEGER NOT NULL,
        cursor INTEGER NOT NULL,
        next INTEGER,
        paused INTEGER NOT NULL,
        fence INTEGER NOT NULL,
        retry_at INTEGER,
        retry_slot INTEGER,
        retry_attempt INTEGER,
        runs INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        seen INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE open_run (
        name TEXT NOT NULL,
        number INTEGER NOT NULL,
        holder TEXT NOT NULL,
        renewed_at INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        started_at INTEGER NOT NULL,
        reason TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        missed INTEGER NOT NULL,
        PRIMARY KEY (name, number)
    ) STRICT;
    CREATE TABLE past_run (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        number INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        started_at INTEGER NOT NULL,
        ended_at INTEGER NOT NULL,
        reason TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        missed INTEGER NOT NULL,
        code TEXT,
        message TEXT,
        at TEXT,
        UNIQUE (name, number)
    ) STRICT;
    PRAGMA user_version = 1;
";

/// Schedules in a file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    /// None after a failure: what is there now may be another file, or may be written now.
    opened: Mutex<Option<Opened>>,
}

#[derive(Debug)]
struct Opened {
    connection: Connection,
    /// Device and inode.
    file: (u64, u64),
}

impl SqliteStore {
    /// Opens the file at `path`, which is made if there is none. Only its owner may read it then;
    /// its directory is the caller's.
    ///
    /// One that is moved away or replaced later is noticed: what is at `path` then is opened, or
    /// made.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            path: path.to_owned(),
            opened: Mutex::new(Some(Opened::at(path)?)),
        })
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.transact(TransactionBehavior::Deferred, read)
    }

    fn transact<T>(
        &self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut slot = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = match slot.take() {
            Some(opened) if file(&self.path).is_ok_and(|now| now == opened.file) => opened,
            // It is closed first.
            gone => {
                drop(gone);
                Opened::at(&self.path)?
            }
        };
        let opened = slot.insert(opened);
        let done = opened
            .connection
            .transaction_with_behavior(behavior)
            .and_then(|transaction| {
                let done = work(&transaction)?;
                transaction.commit()?;
                Ok(done)
            });
        done.map_err(|error| {
            let error = trouble(&self.path, &error);
            if !matches!(error.kind, StoreErrorKind::Busy | StoreErrorKind::Full) {
                *slot = None;
            }
            error
        })
    }
}

impl Opened {
    fn at(path: &Path) -> Result<Self, StoreError> {
        // SQLite's locks are the process's: closing the file, as making it does, would release
        // those of another handle.
        static MAKING: Mutex<()> = Mutex::new(());
        let making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        make(path).map_err(|error| refused(path, &error))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags);
        let file = file(path).map_err(|error| refused(path, &error))?;
        drop(making);
        let mut connection = opened.map_err(|error| trouble(path, &error))?;
        prepare(&mut connection, path)?;
        Ok(Self { connection, file })
    }
}

/// Which file is there.
fn file(path: &Path) -> io::Result<(u64, u64)> {
    let found = path.metadata()?;
    Ok((found.dev(), found.ino()))
}

impl Store for SqliteStore {
    fn load(&self, name: &str, now: Timestamp) -> Result<Option<Row>, StoreError> {
        self.read(|transaction| row(transaction, name, now))
    }

    fn all(&self, now: Timestamp) -> Result<Vec<(String, Row)>, StoreError> {
        self.read(|transaction| {
            let mut rows = Vec::new();
            for name in names(transaction)? {
                if let Some(row) = row(transaction, &name, now)? {
                    rows.push((name, row));
                }
            }
            Ok(rows)
        })
    }

    fn change(
        &self,
        name: &str,
        now: Timestamp,
        change: &mut dyn FnMut(&mut Option<Row>),
    ) -> Result<(), StoreError> {
        self.transact(TransactionBehavior::Immediate, |transaction| {
            let before = row(transaction, name, now)?;
            let mut after = before.clone();
            change(&mut after);
            match after {
                after if after == before => Ok(()),
                Some(after) => write(transaction, name, &after),
                None => forget(transaction, name),
            }
        })
    }

    fn history(&self, name: &str, limit: usize) -> Result<Vec<PastRun>, StoreError> {
        self.read(|transaction| history(transaction, name, limit))
    }
}

/// Makes the file if there is none, and keeps others from it.
fn make(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = path.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if found.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(|error| {
            let what = "others may use it, and it is not this user's to change that";
            io::Error::new(error.kind(), what)
        })?;
    }
    Ok(())
}

/// Sets the connection up, and the file if it is new.
fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    set_up(connection).map_err(|error| trouble(path, &error))?;
    // Who finds it ready does not wait for a process that holds it.
    let found = connection.query_row("PRAGMA user_version", [], |row| row.get(0));
    let version = found
        .and_then(|version: i64| {
            if version != 0 {
                return Ok(version);
            }
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let version = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            let tables: i64 =
                transaction
                    .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            if (version, tables) == (0, 0) {
                transaction.execute_batch(SCHEMA)?;
                transaction.commit()?;
                return Ok(VERSION);
            }
            Ok(version)
        })
        .map_err(|error| trouble(path, &error))?;
    match version.cmp(&VERSION) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => {
            let what =
                format!("a newer postrider wrote it (schema {version}, this one knows {VERSION})");
            Err(about(path, StoreErrorKind::Newer, &what))
        }
        Ordering::Less => {
            let what = "a database of something else";
            Err(about(path, StoreErrorKind::Corrupt, what))
        }
    }
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    let began = Instant::now();
    // Where the file system cannot do it another mode stays, which is slower and as safe. Of two
    // that switch a new file at once one is refused without the patience asked for above.
    while let Err(error) =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))
    {
        if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) || began.elapsed() > PATIENCE
        {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    connection.pragma_update(None, "synchronous", "full")
}

fn names(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<String>> {
    let mut select = transaction.prepare("SELECT name FROM schedule ORDER BY name")?;
    select.query_map([], |row| row.get(0))?.collect()
}

fn row(transaction: &Transaction<'_>, name: &str, now: Timestamp) -> rusqlite::Result<Option<Row>> {
    let mut select = transaction.prepare(
        "SELECT script, plan, zone, anchor, cursor, next, paused, fence, retry_at, retry_slot,
            retry_attempt, runs, failures, seen FROM schedule WHERE name = ?",
    )?;
    let found = select
        .query_row([name], |row| {
            let retry = match (optional_time(row, 8)?, optional_time(row, 9)?) {
                (Some(at), Some(slot)) => Some(RetryDue {
                    at,
                    slot,
                    attempt: number(row, 10)?,
                }),
                _ => None,
            };
            Ok(Row {
                script: row.get(0)?,
                plan: row.get(1)?,
                zone: row.get(2)?,
                anchor: time(row, 3)?,
                cursor: time(row, 4)?,
                next: optional_time(row, 5)?,
                paused: row.get(6)?,
                fence: number(row, 7)?,
                retry,
                runs: number(row, 11)?,
                failures: number(row, 12)?,
                seen: time(row, 13)?,
                open: Vec::new(),
                last: None,
                ahead: Vec::new(),
                ended: Vec::new(),
                stamp: 0,
            })
        })
        .optional()?;
    let Some(mut found) = found else {
        return Ok(None);
    };
    found.open = open_runs(transaction, name)?;
    found.last = history(transaction, name, 1)?.pop();
    let mut ahead = transaction
        .prepare("SELECT slot FROM past_run WHERE name = ? AND slot > ? ORDER BY id DESC")?;
    found.ahead = ahead
        .query_map(params![name, now.as_microsecond()], |row| time(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Some(found))
}

fn open_runs(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<Vec<OpenRun>> {
    let mut select = transaction.prepare(
        "SELECT number, holder, renewed_at, slot, started_at, reason, attempt, missed
            FROM open_run WHERE name = ? ORDER BY number",
    )?;
    let found = select.query_map([name], |row| {
        Ok(OpenRun {
            number: number(row, 0)?,
            holder: row.get(1)?,
            renewed_at: time(row, 2)?,
            slot: time(row, 3)?,
            started_at: time(row, 4)?,
            reason: reason(row, 5)?,
            attempt: number(row, 6)?,
            missed: number(row, 7)?,
        })
    })?;
    found.collect()
}

fn history(
    transaction: &Transaction<'_>,
    name: &str,
    limit: usize,
) -> rusqlite::Result<Vec<PastRun>> {
    let mut select = transaction.prepare(
        "SELECT number, slot, started_at, ended_at, reason, attempt, missed, code, message, at
            FROM past_run WHERE name = ? ORDER BY id DESC LIMIT ?",
    )?;
    let limit = integer(limit.min(HISTORY));
    let found = select.query_map(params![name, limit], |row| {
        let code: Option<String> = row.get(7)?;
        Ok(PastRun {
            number: number(row, 0)?,
            scheduled_at: time(row, 1)?,
            started_at: time(row, 2)?,
            ended_at: time(row, 3)?,
            reason: reason(row, 4)?,
            attempt: number(row, 5)?,
            missed: number(row, 6)?,
            result: match code {
                None => Ok(()),
                Some(code) => Err(JobError {
                    code,
                    message: row.get(8)?,
                    at: row.get(9)?,
                }),
            },
        })
    })?;
    found.collect()
}

fn write(transaction: &Transaction<'_>, name: &str, row: &Row) -> rusqlite::Result<()> {
    let stamp = |time: Timestamp| time.as_microsecond();
    transaction.execute(
        "INSERT OR REPLACE INTO schedule (name, script, plan, zone, anchor, cursor, next, paused,
            fence, retry_at, retry_slot, retry_attempt, runs, failures, seen)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            name,
            row.script,
            row.plan,
            row.zone,
            stamp(row.anchor),
            stamp(row.cursor),
            row.next.map(stamp),
            row.paused,
            integer(row.fence),
            row.retry.map(|due| stamp(due.at)),
            row.retry.map(|due| stamp(due.slot)),
            row.retry.map(|due| due.attempt),
            integer(row.runs),
            integer(row.failures),
            stamp(row.seen),
        ],
    )?;
    transaction.execute("DELETE FROM open_run WHERE name = ?", [name])?;
    for run in &row.open {
        transaction.execute(
            "INSERT INTO open_run (name, number, holder, renewed_at, slot, started_at, reason,
                attempt, missed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                name,
                integer(run.number),
                run.holder,
                stamp(run.renewed_at),
                stamp(run.slot),
                stamp(run.started_at),
                run.reason.name(),
                run.attempt,
                run.missed,
            ],
        )?;
    }
    for past in &row.ended {
        let error = past.result.as_ref().err();
        // A run of the same number is that run: it was taken for interrupted.
        transaction.execute(
            "INSERT OR REPLACE INTO past_run (name, number, slot, started_at, ended_at, reason,
                attempt, missed, code, message, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                name,
                integer(past.number),
                stamp(past.scheduled_at),
                stamp(past.started_at),
                stamp(past.ended_at),
                past.reason.name(),
                past.attempt,
                past.missed,
                error.map(|error| &error.code),
                error.map(|error| &error.message),
                error.and_then(|error| error.at.as_ref()),
            ],
        )?;
    }
    if !row.ended.is_empty() {
        transaction.execute(
            "DELETE FROM past_run WHERE name = ?1 AND id NOT IN
                (SELECT id FROM past_run WHERE name = ?1 ORDER BY id DESC LIMIT ?2)",
            params![name, integer(HISTORY)],
        )?;
    }
    Ok(())
}

fn forget(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<()> {
    for delete in [
        "DELETE FROM schedule WHERE name = ?",
        "DELETE FROM open_run WHERE name = ?",
        "DELETE FROM past_run WHERE name = ?",
    ] {
        transaction.execute(delete, [name])?;
    }
    Ok(())
}

/// As SQLite counts.
fn integer(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn number<N: TryFrom<i64>>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<N> {
    let found: i64 = row.get(column)?;
    N::try_from(found).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, found))
}

fn time(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    moment(row.get(column)?, column)
}

fn optional_time(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let found: Option<i64> = row.get(column)?;
    found.map(|found| moment(found, column)).transpose()
}

fn moment(found: i64, column: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(found)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, found))
}

fn reason(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Reason> {
    let found: String = row.get(column)?;
    Reason::of(&found)
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(column, "reason".to_owned(), Type::Text))
}

/// What SQLite says, in our terms.
fn trouble(path: &Path, error: &rusqlite::Error) -> StoreError {
    let kind = match error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                return about(path, StoreErrorKind::Busy, "another process holds it");
            }
            // The last one: a table or a column is not there.
            ErrorCode::NotADatabase
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::ConstraintViolation
            | ErrorCode::Unknown => StoreErrorKind::Corrupt,
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => StoreErrorKind::ReadOnly,
            ErrorCode::DiskFull => StoreErrorKind::Full,
            _ => StoreErrorKind::Io,
        },
        rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..) => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Io,
    };
    about(path, kind, &error.to_string())
}

/// What the system says, in our terms.
fn refused(path: &Path, error: &io::Error) -> StoreError {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreErrorKind::ReadOnly
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
        _ => StoreErrorKind::Io,
    };
    about(path, kind, &error.to_string())
}

fn about(path: &Path, kind: StoreErrorKind, what: &str) -> StoreError {
    let what: String = what.chars().take(200).collect();
    let what = what.replace(|c: char| c.is_control(), " ");
    StoreError {
        kind,
        message: format!("{}: {what}", path.display()),
    }
}

#[cfg(test)]
#[path = "sqlite_tests.rs"]
mod tests;
