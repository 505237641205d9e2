//! The ledger as it is read: beside the process that writes it, or without one.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, Row};

use super::file::{PATIENCE, VERSION, strange};
use super::pending::{Sums, day};
use super::{LedgerError, Outcome};

/// A ledger that is read. It is never written, and never made.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    pub(super) connection: Connection,
}

/// One day's traffic of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficRow {
    /// The day, in UTC.
    pub day: Date,
    /// The gateway.
    pub gateway: String,
    /// The device; empty if nobody signed in.
    pub device: String,
    /// The client's address, or [`OTHER`](super::OTHER).
    pub client: String,
    /// The reverse path: `<>` for the empty one, empty if none was named, or
    /// [`OTHER`](super::OTHER).
    pub sender: String,
    /// `PLAIN` or `LOGIN`; empty before that.
    pub mechanism: String,
    /// The protocol's version; empty in clear.
    pub tls: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Reply code and enhanced status; empty for yes.
    pub reply: String,
    /// The reply's text, the last time.
    pub text: String,
    /// How much.
    pub sums: Sums,
}

/// One day's messages of one device to one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainRow {
    /// The day, in UTC.
    pub day: Date,
    /// The gateway.
    pub gateway: String,
    /// The device.
    pub device: String,
    /// The recipients' domain, or [`OTHER`](super::OTHER).
    pub domain: String,
    /// How much.
    pub sums: Sums,
}

/// Messages that were accepted within ten minutes of the last day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    /// The gateway.
    pub gateway: String,
    /// The device.
    pub device: String,
    /// When the ten minutes began.
    pub at: Timestamp,
    /// How many.
    pub messages: u32,
}

/// What the ledger says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// When it was written last.
    pub written_at: Option<Timestamp>,
    /// How many observations found no room, ever.
    pub lost: u64,
}

impl Reader {
    /// The ledger in this file; `None`: there is none yet.
    ///
    /// # Errors
    /// It cannot be read, or is something else.
    pub fn open(path: &Path) -> Result<Option<Self>, LedgerError> {
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err(LedgerError::new(path, &error.to_string())),
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
            connection.busy_timeout(PATIENCE)?;
            let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            let tables: i64 =
                connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            Ok((connection, version, tables))
        });
        match opened {
            Ok((connection, VERSION, _)) => Ok(Some(Self {
                path: path.to_owned(),
                connection,
            })),
            // It is being made.
            Ok((_, 0, 0)) => Ok(None),
            Ok((_, version, _)) => Err(LedgerError::new(path, &strange(version))),
            Err(error) => Err(LedgerError::new(path, &error.to_string())),
        }
    }

    /// Every row of traffic since this moment's day, in order of days.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn traffic(
        &self,
        since: Timestamp,
        mut each: impl FnMut(TrafficRow),
    ) -> Result<(), LedgerError> {
        self.each(
            "SELECT day, gateway, device, client, sender, mechanism, tls, outcome, reply, text,
                count, recipients, octets, first_at, last_at FROM traffic WHERE day >= ?
                ORDER BY day",
            day(since),
            |row| {
                let outcome: String = row.get(7)?;
                let outcome = Outcome::from_name(&outcome).ok_or_else(|| {
                    rusqlite::Error::InvalidColumnType(7, "outcome".to_owned(), Type::Text)
                })?;
                each(TrafficRow {
                    day: date(row)?,
                    gateway: row.get(1)?,
                    device: row.get(2)?,
                    client: row.get(3)?,
                    sender: row.get(4)?,
                    mechanism: row.get(5)?,
                    tls: row.get(6)?,
                    outcome,
                    reply: row.get(8)?,
                    text: row.get(9)?,
                    sums: sums(row, 10)?,
                });
                Ok(())
            },
        )
    }

    /// Every row of recipients' domains since this moment's day, in order of days.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn domains(
        &self,
        since: Timestamp,
        mut each: impl FnMut(DomainRow),
    ) -> Result<(), LedgerError> {
        self.each(
            "SELECT day, gateway, device, domain, count, recipients, octets, first_at, last_at
                FROM domain WHERE day >= ? ORDER BY day",
            day(since),
            |row| {
                each(DomainRow {
                    day: date(row)?,
                    gateway: row.get(1)?,
                    device: row.get(2)?,
                    domain: row.get(3)?,
                    sums: sums(row, 4)?,
                });
                Ok(())
            },
        )
    }

    /// What was accepted within the last twenty-four hours, for
    /// [`Limits::restore`](crate::limits::Limits::restore).
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn recent(&self, now: Timestamp) -> Result<Vec<Recent>, LedgerError> {
        let mut recent = Vec::new();
        let since = now.as_second() - 24 * 3600 - crate::limits::DAY_STEP;
        self.each(
            "SELECT second, gateway, device, count FROM recent WHERE second > ? ORDER BY second",
            since,
            |row| {
                recent.push(Recent {
                    at: moment(Timestamp::from_second(row.get(0)?), 0)?,
                    gateway: row.get(1)?,
                    device: row.get(2)?,
                    messages: u32::try_from(row.get::<_, i64>(3)?).unwrap_or(u32::MAX),
                });
                Ok(())
            },
        )?;
        Ok(recent)
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn marks(&self) -> Result<Marks, LedgerError> {
        let mut marks = Marks::default();
        self.each("SELECT name, value FROM mark WHERE value >= ?", 0, |row| {
            let (name, value): (String, i64) = (row.get(0)?, row.get(1)?);
            match name.as_str() {
                "written_at" => {
                    marks.written_at = Some(moment(Timestamp::from_millisecond(value), 1)?);
                }
                "lost" => marks.lost = value.unsigned_abs(),
                _ => {}
            }
            Ok(())
        })?;
        Ok(marks)
    }

    fn each(
        &self,
        select: &str,
        since: i64,
        mut each: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), LedgerError> {
        let mut read = || {
            let mut select = self.connection.prepare(select)?;
            let mut rows = select.query([since])?;
            while let Some(row) = rows.next()? {
                each(row)?;
            }
            Ok(())
        };
        read().map_err(|error: rusqlite::Error| LedgerError::new(&self.path, &error.to_string()))
    }
}

fn date(row: &Row<'_>) -> rusqlite::Result<Date> {
    let day: i64 = row.get(0)?;
    let at = moment(Timestamp::from_second(day.saturating_mul(24 * 3600)), 0)?;
    Ok(at.to_zoned(jiff::tz::TimeZone::UTC).date())
}

fn sums(row: &Row<'_>, first: usize) -> rusqlite::Result<Sums> {
    let number = |column: usize| {
        let found: i64 = row.get(column)?;
        u64::try_from(found).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, found))
    };
    let time = |column: usize| moment(Timestamp::from_millisecond(row.get(column)?), column);
    Ok(Sums {
        count: number(first)?,
        recipients: number(first + 1)?,
        octets: number(first + 2)?,
        first_at: time(first + 3)?,
        last_at: time(first + 4)?,
    })
}

fn moment(at: Result<Timestamp, jiff::Error>, column: usize) -> rusqlite::Result<Timestamp> {
    at.map_err(|_| rusqlite::Error::InvalidColumnType(column, "time".to_owned(), Type::Integer))
}
