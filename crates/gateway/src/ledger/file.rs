//! The ledger's file: made, brought up to date, added to, and kept from growing for ever.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};

use super::LedgerError;
use super::pending::{Domain, Pending, Sums, Traffic, day};

/// What this Postrider writes.
pub(super) const VERSION: i64 = 1;

/// How long another process may hold the file.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Days that are kept: a year, and the month that is compared with it.
const KEPT: i64 = 400;

/// Rows that one device may have for one day, of traffic and of domains each; what comes then is
/// counted together.
const ROWS_OF_DAY: i64 = 256;

/// Rows that the file may have; the oldest days go first.
const ROWS: i64 = 500_000;

/// Each step brings the file from one version to the next.
const STEPS: [&str; 1] = ["
    CREATE TABLE traffic (
        day INTEGER NOT NULL,
        gateway TEXT NOT NULL,
        device TEXT NOT NULL,
        client TEXT NOT NULL,
        sender TEXT NOT NULL,
        mechanism TEXT NOT NULL,
        tls TEXT NOT NULL,
        outcome TEXT NOT NULL,
        reply TEXT NOT NULL,
        text TEXT NOT NULL,
        count INTEGER NOT NULL,
        recipients INTEGER NOT NULL,
        octets INTEGER NOT NULL,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        PRIMARY KEY (day, gateway, device, client, sender, mechanism, tls, outcome, reply)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE domain (
        day INTEGER NOT NULL,
        gateway TEXT NOT NULL,
        device TEXT NOT NULL,
        domain TEXT NOT NULL,
        count INTEGER NOT NULL,
        recipients INTEGER NOT NULL,
        octets INTEGER NOT NULL,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        PRIMARY KEY (day, gateway, device, domain)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE recent (
        second INTEGER NOT NULL,
        gateway TEXT NOT NULL,
        device TEXT NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (second, gateway, device)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE mark (
        name TEXT NOT NULL PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
"];

/// The file, as its one writer of this process has it.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    opened: Option<Opened>,
    /// How much of what was lost stands in the file.
    lost: u64,
    /// The last day on which old rows were removed.
    tidied: i64,
}

#[derive(Debug)]
struct Opened {
    connection: Connection,
    /// Device and inode.
    file: (u64, u64),
}

impl File {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            opened: None,
            lost: 0,
            tidied: i64::MIN,
        }
    }

    /// Adds all of it, or nothing.
    pub(super) fn write(&mut self, pending: &Pending, lost: u64) -> Result<(), LedgerError> {
        let mut opened = match self.opened.take() {
            // One that was moved away or replaced is left.
            Some(opened) if identity(&self.path).is_ok_and(|now| now == opened.file) => opened,
            gone => {
                drop(gone);
                self.tidied = i64::MIN;
                open(&self.path)?
            }
        };
        let now = pending.last_at();
        let today = day(now);
        let newly_lost = lost - self.lost;
        let is_tidy = self.tidied == today;
        let written = opened
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                add(&transaction, pending)?;
                mark(&transaction, now, newly_lost)?;
                if !is_tidy {
                    tidy(&transaction, today)?;
                }
                transaction.commit()
            });
        // Opened anew after a failure: what is there then may be another file.
        written.map_err(|error| LedgerError::new(&self.path, &error.to_string()))?;
        self.lost = lost;
        self.tidied = today;
        self.opened = Some(opened);
        Ok(())
    }
}

/// Which file is there.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = path.metadata()?;
    Ok((found.dev(), found.ino()))
}

fn open(path: &Path) -> Result<Opened, LedgerError> {
    let refused = |error: io::Error| LedgerError::new(path, &error.to_string());
    let file = make(path).and_then(|()| identity(path)).map_err(refused)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let trouble = |error: rusqlite::Error| LedgerError::new(path, &error.to_string());
    let mut connection = Connection::open_with_flags(path, flags).map_err(trouble)?;
    set_up(&connection).map_err(trouble)?;
    match bring_up_to_date(&mut connection).map_err(trouble)? {
        VERSION => Ok(Opened { connection, file }),
        found => Err(LedgerError::new(path, &strange(found))),
    }
}

/// What to say of a file with this version.
pub(super) fn strange(version: i64) -> String {
    if version > VERSION {
        format!("a newer postrider wrote it (schema {version}, this one knows {VERSION})")
    } else {
        "it is a database of something else".to_owned()
    }
}

/// Makes the file and its directory, and keeps others from them.
fn make(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
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
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // Sums of the last seconds may be lost with the machine's power: no flush for each batch.
    connection.pragma_update(None, "synchronous", "normal")
}

/// The version that it has then: negative if it is a database of something else.
fn bring_up_to_date(connection: &mut Connection) -> rusqlite::Result<i64> {
    let version = |connection: &Connection| {
        connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
    };
    if version(connection)? >= VERSION {
        return version(connection);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version(&transaction)?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let Ok(steps) = usize::try_from(found) else {
        return Ok(found);
    };
    if found == 0 && tables > 0 {
        return Ok(-1);
    }
    for step in STEPS.iter().skip(steps) {
        transaction.execute_batch(step)?;
    }
    if found < VERSION {
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()?;
    version(connection)
}

fn add(transaction: &Transaction<'_>, pending: &Pending) -> rusqlite::Result<()> {
    for (traffic, (sums, text)) in &pending.traffic {
        if !add_traffic(transaction, traffic, sums, text, false)? {
            add_traffic(transaction, &traffic.folded(), sums, text, true)?;
        }
    }
    for (domain, sums) in &pending.domains {
        if !add_domain(transaction, domain, sums, false)? {
            add_domain(transaction, &domain.folded(), sums, true)?;
        }
    }
    let mut recent = transaction.prepare_cached(
        "INSERT INTO recent (second, gateway, device, count) VALUES (?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET count = count + excluded.count",
    )?;
    for (recently, messages) in &pending.recent {
        recent.execute(params![
            recently.second,
            recently.gateway,
            recently.device,
            integer(*messages),
        ])?;
    }
    Ok(())
}

/// Adds to its row, or makes one; false: there is no row, and no room for one. A row that is folded
/// is made in any case: there are few.
fn add_traffic(
    transaction: &Transaction<'_>,
    key: &Traffic,
    sums: &Sums,
    text: &str,
    is_folded: bool,
) -> rusqlite::Result<bool> {
    let values = params![
        key.day,
        key.gateway,
        key.device,
        key.client,
        key.sender,
        key.mechanism,
        key.tls,
        key.outcome.name(),
        key.reply,
        integer(sums.count),
        integer(sums.recipients),
        integer(sums.octets),
        sums.first_at.as_millisecond(),
        sums.last_at.as_millisecond(),
        text,
    ];
    let added = transaction
        .prepare_cached(
            "UPDATE traffic SET count = count + ?10, recipients = recipients + ?11,
                octets = octets + ?12, first_at = min(first_at, ?13), last_at = max(last_at, ?14),
                text = ?15
                WHERE day = ?1 AND gateway = ?2 AND device = ?3 AND client = ?4 AND sender = ?5
                AND mechanism = ?6 AND tls = ?7 AND outcome = ?8 AND reply = ?9",
        )?
        .execute(values)?;
    if added > 0 {
        return Ok(true);
    }
    let select = "SELECT count(*) FROM traffic WHERE day = ? AND gateway = ? AND device = ?";
    if !is_folded && is_full(transaction, select, key.day, &key.gateway, &key.device)? {
        return Ok(false);
    }
    transaction
        .prepare_cached(
            "INSERT INTO traffic (day, gateway, device, client, sender, mechanism, tls, outcome,
                reply, count, recipients, octets, first_at, last_at, text)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(values)?;
    Ok(true)
}

fn add_domain(
    transaction: &Transaction<'_>,
    key: &Domain,
    sums: &Sums,
    is_folded: bool,
) -> rusqlite::Result<bool> {
    let values = params![
        key.day,
        key.gateway,
        key.device,
        key.name,
        integer(sums.count),
        integer(sums.recipients),
        integer(sums.octets),
        sums.first_at.as_millisecond(),
        sums.last_at.as_millisecond(),
    ];
    let added = transaction
        .prepare_cached(
            "UPDATE domain SET count = count + ?5, recipients = recipients + ?6,
                octets = octets + ?7, first_at = min(first_at, ?8), last_at = max(last_at, ?9)
                WHERE day = ?1 AND gateway = ?2 AND device = ?3 AND domain = ?4",
        )?
        .execute(values)?;
    if added > 0 {
        return Ok(true);
    }
    let select = "SELECT count(*) FROM domain WHERE day = ? AND gateway = ? AND device = ?";
    if !is_folded && is_full(transaction, select, key.day, &key.gateway, &key.device)? {
        return Ok(false);
    }
    transaction
        .prepare_cached(
            "INSERT INTO domain (day, gateway, device, domain, count, recipients, octets,
                first_at, last_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(values)?;
    Ok(true)
}

fn is_full(
    transaction: &Transaction<'_>,
    select: &str,
    day: i64,
    gateway: &str,
    device: &str,
) -> rusqlite::Result<bool> {
    let rows: i64 = transaction
        .prepare_cached(select)?
        .query_row(params![day, gateway, device], |row| row.get(0))?;
    Ok(rows >= ROWS_OF_DAY)
}

/// Writes down when this was, and how much was lost.
fn mark(transaction: &Transaction<'_>, now: Timestamp, lost: u64) -> rusqlite::Result<()> {
    let mut set = transaction.prepare_cached(
        "INSERT INTO mark (name, value) VALUES (?1, ?2)
            ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
    )?;
    set.execute(params!["written_at", now.as_millisecond()])?;
    transaction
        .prepare_cached(
            "INSERT INTO mark (name, value) VALUES ('lost', ?1)
                ON CONFLICT DO UPDATE SET value = value + excluded.value",
        )?
        .execute([integer(lost)])?;
    Ok(())
}

/// Removes what is too old, or too much.
fn tidy(transaction: &Transaction<'_>, today: i64) -> rusqlite::Result<()> {
    for table in ["traffic", "domain"] {
        transaction.execute(
            &format!("DELETE FROM {table} WHERE day < ?"),
            [today - KEPT],
        )?;
        let mut rows: i64 =
            transaction.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                row.get(0)
            })?;
        while rows > ROWS {
            let oldest = format!("DELETE FROM {table} WHERE day = (SELECT min(day) FROM {table})");
            let removed = transaction.execute(&oldest, [])?;
            rows -= integer(removed.max(1) as u64);
        }
    }
    let yesterday = (today - 1) * 24 * 3600;
    transaction.execute("DELETE FROM recent WHERE second < ?", [yesterday])?;
    Ok(())
}

/// As SQLite counts.
fn integer(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
