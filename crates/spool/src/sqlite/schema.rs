//! The tables, how they came to be, and how a connection to them is set up.
//!
//! Times are microseconds. A recipient has a `due_at` while it waits, and a message the earliest
//! of its recipients'; a message has a `done_at` when all are delivered or failed.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::segment::sync_dir;
use crate::error::{SpoolError, SpoolErrorKind};
use crate::state::StateKind;

/// How long another process may hold the file. A group takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pages after which the log is written back: 8 MiB.
const CHECKPOINT: i64 = 2000;

/// To what the log is cut after it grew beyond.
const LOG_LIMIT: i64 = 32 * 1024 * 1024;

/// More of it is cut by whoever leaves: 256 KiB.
const LOG_TO_READ: u64 = 256 * 1024;

/// Statements kept prepared; there are fewer.
const STATEMENTS: usize = 96;

/// What leads from each version to the next; the last is what this Postrider reads and writes.
const STEPS: [&str; 2] = [
    "
    CREATE TABLE account (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        seen INTEGER NOT NULL,
        starts INTEGER NOT NULL DEFAULT 0,
        back_off_until INTEGER,
        back_off_why TEXT
    ) STRICT;
    CREATE TABLE message (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        account INTEGER NOT NULL,
        priority INTEGER NOT NULL,
        due_at INTEGER,
        done_at INTEGER,
        waiting_since INTEGER NOT NULL,
        accepted_at INTEGER NOT NULL,
        send_at INTEGER,
        expires_at INTEGER,
        reverse_path TEXT,
        message_id TEXT NOT NULL,
        facts INTEGER NOT NULL,
        dsn TEXT,
        origin TEXT NOT NULL,
        octets INTEGER NOT NULL,
        sum INTEGER NOT NULL,
        segment TEXT,
        place INTEGER
    ) STRICT;
    CREATE INDEX message_due ON message (account, priority, due_at) WHERE due_at IS NOT NULL;
    CREATE INDEX message_age ON message (account, waiting_since) WHERE due_at IS NOT NULL;
    CREATE INDEX message_expiry ON message (expires_at)
        WHERE expires_at IS NOT NULL AND due_at IS NOT NULL;
    CREATE INDEX message_done ON message (done_at) WHERE done_at IS NOT NULL;
    CREATE INDEX message_segment ON message (segment) WHERE segment IS NOT NULL;
    CREATE TABLE body (message INTEGER PRIMARY KEY, octets BLOB NOT NULL) STRICT;
    CREATE TABLE recipient (
        message INTEGER NOT NULL,
        n INTEGER NOT NULL,
        address TEXT NOT NULL,
        state INTEGER NOT NULL,
        due_at INTEGER,
        turn_at INTEGER,
        attempts INTEGER NOT NULL,
        lease INTEGER,
        changed_at INTEGER NOT NULL,
        why TEXT,
        PRIMARY KEY (message, n)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE receipt (
        account INTEGER NOT NULL,
        key TEXT NOT NULL,
        message INTEGER NOT NULL,
        message_id TEXT NOT NULL,
        accepted_at INTEGER NOT NULL,
        PRIMARY KEY (account, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX receipt_age ON receipt (accepted_at);
    CREATE INDEX receipt_message ON receipt (message);
    CREATE TABLE holder (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        lock TEXT,
        beats INTEGER NOT NULL,
        ended INTEGER NOT NULL,
        joined_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE lease (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        message INTEGER,
        account INTEGER NOT NULL,
        holder INTEGER NOT NULL,
        recipients INTEGER NOT NULL,
        unsettled INTEGER NOT NULL,
        gone INTEGER NOT NULL,
        paced INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE slot (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        account INTEGER NOT NULL,
        holder INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE pace (
        account INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        at INTEGER NOT NULL,
        used INTEGER NOT NULL,
        PRIMARY KEY (account, kind, at)
    ) STRICT, WITHOUT ROWID;
",
    // What a recipient's sender wants to hear of it; NULL: as the message has it.
    "
    ALTER TABLE recipient ADD COLUMN notify INTEGER;
    ALTER TABLE recipient ADD COLUMN orcpt TEXT;
",
];

/// A state as its number in the table.
pub(crate) const fn code(kind: StateKind) -> i64 {
    match kind {
        StateKind::Queued => 0,
        StateKind::Sending => 1,
        StateKind::Deferred => 2,
        StateKind::Held => 3,
        StateKind::Delivered => 4,
        StateKind::Failed => 5,
        StateKind::Unknown => 6,
    }
}

/// A connection that writes, to a database that is as this Postrider knows it.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, SpoolError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    if version(&connection)? == 0 {
        // Before the first table is made, or it is of no effect.
        connection.pragma_update(None, "auto_vacuum", "incremental")?;
    }
    log_ahead(&connection)?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT)?;
    connection.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
    connection.pragma_update(None, "cache_size", -2048)?;
    keep_statements(&connection)?;
    migrate(&mut connection, Some(path))?;
    Ok(connection)
}

/// One that only reads.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, SpoolError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -512)?;
    keep_statements(&connection)?;
    Ok(connection)
}

/// A database that is gone with its connection.
pub(crate) fn open_in_memory() -> Result<Connection, SpoolError> {
    let mut connection = Connection::open_in_memory()?;
    keep_statements(&connection)?;
    migrate(&mut connection, None)?;
    Ok(connection)
}

/// Leaves the log to whoever opens the queue next, who reads it: to write it back at the end of
/// each process would take flushes. One that has grown is written back, and cut, unless others
/// are in the middle of something.
pub(crate) fn shorten(connection: &Connection, log: &Path) -> Result<(), SpoolError> {
    if log.metadata().is_ok_and(|found| found.len() > LOG_TO_READ) {
        connection.busy_timeout(Duration::ZERO)?;
        let cut = connection.query_row("PRAGMA wal_checkpoint(truncate)", [], |_| Ok(()));
        connection.busy_timeout(PATIENCE)?;
        cut?;
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(())
}

/// Statements are prepared once. Without the stability guarantee the planner looks at the values
/// that are bound, and prepares a statement anew whenever one of them changes: a sixth of the
/// processor's time.
fn keep_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn log_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let began = Instant::now();
    // Of two that switch a new file at once one is refused without the patience asked for.
    while let Err(error) =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))
    {
        if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) || began.elapsed() > PATIENCE
        {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn migrate(connection: &mut Connection, path: Option<&Path>) -> Result<(), SpoolError> {
    let version = version(connection)?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if version == known {
        return Ok(());
    }
    if version == 0
        && let Some(dir) = path.and_then(Path::parent)
    {
        // Whoever finds tables finds the directories, too.
        sync_dir(dir)?;
        if let Some(parent) = dir.parent().filter(|found| !found.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been quicker.
    let version = self::version(&transaction)?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if version > known {
        let what =
            format!("a newer postrider wrote the queue (schema {version}, this one knows {known})");
        return Err(SpoolError::new(SpoolErrorKind::Newer, &what));
    }
    if version < 0 || (version == 0) != (tables == 0) {
        let what = "the queue's file is a database of something else";
        return Err(SpoolError::new(SpoolErrorKind::Corrupt, what));
    }
    for step in STEPS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}
